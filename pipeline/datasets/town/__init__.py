"""The toy town: streets, cars and trees as triangles and cylinders, seen by cameras and lidars. No dataset's format."""
