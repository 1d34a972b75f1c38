"""Make the committed samples out of full recordings: `python trim.py DIRECTORY_OF_RECORDINGS`.

See README.md for what is left out.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

VERSIONS = ("3.7.8", "4.2.9", "4.4.10", "4.5.10", "4.6.8")
# Pages by `start` after the second, and pages in the natural order, say nothing new; IPAM-API reads no changelog.
LEFT_OUT = re.compile(
    r"^(FACT|changelog |list by start, page [3-6]|list by offset, natural order|clean up|what is left)"
)
WHOLE_RESULTS = 1


def trimmed(exchange: dict[str, Any]) -> dict[str, Any]:
    """One exchange without what the replay does not compare."""
    response = exchange["response"]
    kept: dict[str, Any] = {"status": response["status"], "headers": response["headers"]}
    body = response.get("body")
    if isinstance(body, str) and body:
        [title] = re.findall(r"<title>(.*?)</title>", body, re.DOTALL)
        kept["title"] = re.sub(r"\s+", " ", title).strip()
    elif body != "":
        kept["json"] = in_brief(body)
    return {"note": exchange["note"], "request": exchange["request"], "response": kept}


def in_brief(body: Any) -> Any:
    """A page of prefixes with its first row, and the ids and prefixes of the last one."""
    if not isinstance(body, dict) or not isinstance(body.get("results"), list):
        return body
    results = body["results"]
    if len(results) <= WHOLE_RESULTS or not all(isinstance(each, dict) and "prefix" in each for each in results):
        return body
    return {
        **body,
        "results": results[:WHOLE_RESULTS],
        "last": {name: results[-1][name] for name in ("id", "prefix") if name in results[-1]},
    }


def main(source: Path) -> None:
    for version in VERSIONS:
        recording = json.loads((source / f"{version}.json").read_text("utf-8"))
        exchanges = [each for each in recording["exchanges"] if not LEFT_OUT.match(each["note"])]
        lines = [json.dumps(trimmed(each), ensure_ascii=False, separators=(",", ":")) for each in exchanges]
        Path(__file__).with_name(f"{version}.json").write_text(
            f'{{"netbox":"{version}","exchanges":[\n' + ",\n".join(lines) + "\n]}\n", "utf-8"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
