"""Links of the manual to files outside of docs/ become plain text: the site does not contain these files."""

import re

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+[^)]*\)")


def on_page_markdown(markdown: str, page, **_: object) -> str:  # type: ignore[no-untyped-def]
    depth = page.file.src_uri.count("/")

    def plain(match: re.Match[str]) -> str:
        # A page in a folder of docs/ may link to a page above it.
        ups = match.group(0).split("](", 1)[1].count("../")
        return match.group(0) if ups <= depth else match.group(1)

    return OUTSIDE.sub(plain, markdown)
