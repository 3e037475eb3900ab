# SPDX-License-Identifier: LGPL-2.1-or-later
"""Manual pages as tests want them: what stands under which heading, from the RST by way of docutils."""
import docutils.core
from docutils import nodes


class Section:
    """One heading's: its text, and in the order of the page {head: text} of what its lists explain, its literal blocks and its blocks of lines.

    What is below a subheading belongs to that alone."""

    def __init__(self):
        self.subsections = {}
        self.text, self.entries, self.literals, self.lines = "", {}, [], []

    def add(self, node):
        self.text += node.astext() + "\n\n"
        for item in node.findall(nodes.definition_list_item):
            self.entries[item.next_node(nodes.term).astext()] = item.next_node(nodes.definition).astext()
        self.literals += [block.astext() for block in node.findall(nodes.literal_block)]
        self.lines += [[line.astext() for line in block.children] for block in node.findall(nodes.line_block)]


def _section(node):
    section = Section()
    for child in node.children:
        if isinstance(child, nodes.section):
            section.subsections[child.next_node(nodes.title).astext()] = _section(child)
        elif not isinstance(child, nodes.title):
            section.add(child)
    return section


def read(path):
    """{heading: Section}, in the order of the page. What docutils warns of is an error."""
    with open(path, encoding="utf-8") as f:
        document = docutils.core.publish_doctree(f.read(), source_path=path,
                                                 settings_overrides={"halt_level": 2, "syntax_highlight": "none", "file_insertion_enabled": True})
    return _section(document).subsections
