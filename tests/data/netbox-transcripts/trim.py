"""Make the committed samples out of full recordings: `python trim.py DIRECTORY_OF_RECORDINGS`.

See README.md for what is left out.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

FILES = [
    "00",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "07",
    "08",
    "08b",
    "09",
    "10",
    "11",
    "11b",
    "12",
    "13",
    "14",
    "18",
    "19",
    "20",
    "23",
]
HEADERS = ("Allow", "API-Version", "Content-Type", "ETag", "Location", "X-Request-ID")
WHOLE_RESULTS = 3
IN_BRIEF = ("id", "prefix")


def trimmed(exchange: dict[str, Any]) -> dict[str, Any]:
    """One exchange without what the replay does not compare."""
    response = exchange["response"]
    kept: dict[str, Any] = {
        "status": response["status"],
        "headers": {name: value for name, value in response["headers"].items() if name in HEADERS},
    }
    if "json" in response:
        kept["json"] = in_brief(response["json"])
    elif response["text"]:
        kept["title"] = re.sub(r"\s+", " ", re.findall(r"<title>(.*?)</title>", response["text"], re.DOTALL)[0]).strip()
    return {"note": exchange["note"] or "", "request": exchange["request"], "response": kept}


def in_brief(payload: Any) -> Any:
    """A list answer with all but its first results reduced to id and prefix."""
    if not isinstance(payload, dict) or not isinstance(payload.get("results"), list):
        return payload
    results = payload["results"]
    if not all(isinstance(each, dict) and "prefix" in each and len(each) > len(IN_BRIEF) for each in results):
        return payload
    brief = [{name: each[name] for name in IN_BRIEF} for each in results[WHOLE_RESULTS:]]
    return {**payload, "results": results[:WHOLE_RESULTS], **({"more_results": brief} if brief else {})}


def main(source: Path) -> None:
    for number in FILES:
        (path,) = source.glob(f"{number}-*.json")
        recording = json.loads(path.read_text("utf-8"))
        lines = [
            json.dumps(trimmed(each), ensure_ascii=False, separators=(",", ":")) for each in recording["exchanges"]
        ]
        head = json.dumps(recording["scenario"])
        Path(__file__).with_name(path.name).write_text(
            f'{{"scenario":{head},"exchanges":[\n' + ",\n".join(lines) + "\n]}\n", "utf-8"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
