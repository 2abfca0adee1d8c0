"""How large a config file may be: a few kilobytes of YAML can stand for more than any memory holds."""

from __future__ import annotations

import yaml

MOST_BYTES = 10**6
DEEPEST = 20
MOST_NODES = 10_000
"""Values and keys, each alias as all that it stands for. A thousand students in full have some 70,000; write a sweep."""


def check_yaml(text: str) -> None:
    """Count what a YAML text stands for, without making it.

    Raises:
        ValueError: in words, where it is deeper or more than a config may be, or where an alias is within itself.
        yaml.YAMLError: for a text that is no YAML.
    """
    open_nodes: list[_Node] = []
    anchors: dict[str, _Node] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            node = open_nodes.pop()
            node.is_open = False
        elif isinstance(event, yaml.AliasEvent):
            meant = anchors.get(event.anchor or "")
            if meant is None:
                continue  # the loader says so, with its line
            if meant.is_open:
                raise ValueError(f"the alias *{event.anchor} lies within what it stands for")
            _add(open_nodes, meant.nodes, meant.depth)
            continue
        elif not isinstance(event, yaml.NodeEvent):
            continue
        else:
            node = _Node(is_open=isinstance(event, yaml.CollectionStartEvent))
            _add(open_nodes, 1, node.depth)
            if event.anchor is not None:
                anchors[event.anchor] = node
            if node.is_open:
                open_nodes.append(node)


class _Node:
    """What a value stands for so far, itself included: how many values and keys, and how many levels of lists and mappings."""

    def __init__(self, is_open: bool) -> None:
        self.is_open = is_open
        self.nodes, self.depth = 1, int(is_open)


def _add(open_nodes: list[_Node], nodes: int, depth: int) -> None:
    """Count a value of so many nodes and levels in all that it lies in."""
    for above, node in enumerate(reversed(open_nodes), 1):
        node.nodes += nodes
        node.depth = max(node.depth, depth + above)
    if open_nodes and open_nodes[0].nodes > MOST_NODES:
        raise ValueError(
            f"it stands for more than {MOST_NODES:,} values; the aliases in it are counted in full"
        )
    if open_nodes and open_nodes[0].depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} deep; a config has 6 levels")
