"""What the stages are made of: datasets, geometry, teachers, students, streaming, training, figures."""
