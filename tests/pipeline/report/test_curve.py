"""The line chart is one well-formed SVG with a line for each name."""

import xml.etree.ElementTree as ElementTree

from pipeline.report.curve import MOST_POINTS, line_chart


def test_one_line_for_each_name() -> None:
    long = [(float(step), 1 / (step + 1)) for step in range(1000)]
    root = ElementTree.fromstring(
        line_chart({"a <b>": long, "flat": [(0.0, 1.0)], "empty": []}, "step", "loss")
    )
    lines = [element for element in root if element.tag == "polyline"]
    assert len(lines) == 2
    assert len(lines[0].attrib["points"].split()) <= MOST_POINTS
    assert "a <b>" in [element.text for element in root]


def test_nothing_to_draw_is_nothing() -> None:
    assert line_chart({"empty": []}, "step", "loss") == ""
