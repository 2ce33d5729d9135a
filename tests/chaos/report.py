"""The result of the campaign as a part of the report."""

from __future__ import annotations

from collections import Counter
from typing import Any


def markdown(result: dict[str, Any]) -> str:
    r, m = result, result["messages"]
    by_kind: dict[str, Counter[str]] = {}
    for name, kills in r["killsByPoint"].items():
        kind, _, point = name.rpartition(" / ")
        by_kind.setdefault(kind or "every epoch", Counter())[point] += kills
    lines = [
        "## Kills",
        "",
        "(tests/chaos/chaos.py) A pipeline of nine outputs (append with quarantine rules, tumbling windows,",
        "update and complete aggregates, sessions in update mode, deduplication, a left interval join, `foreach_batch`, quarantine) is",
        "killed again and again, and started again after each kill. At the end an oracle that shares no code with bayou compares every",
        "table with what Kafka's own Java consumer reads from the topic.",
        "",
        "| | |",
        "|---|---|",
        f"| seed (`python tests/chaos/chaos.py --seed {r['seed']}`) | {r['seed']} |",
        f"| with | {r['with']} |",
        f"| messages committed, large lake | {m.get('committed', 0):,} |",
        f"| messages in aborted transactions, large lake | {m.get('aborted', 0):,} |",
        f"| kills | {r['kills']} |",
        f"| … of them at named crash points | {r['kills'] - r['killsAtRandomMoments']} |",
        f"| … of them SIGKILL at a random moment | {r['killsAtRandomMoments']} |",
        f"| distinct crash points | {r['distinctNames']} |",
        f"| kills between stage and done, by the files left on disk | {r['betweenStageAndDone']:.0%} |",
        f"| … an epoch sealed and not done | {r['left'].get('sealed', 0)} |",
        f"| … an epoch staged and not sealed | {r['left'].get('staged', 0)} |",
        f"| epochs | {r['epochs']:,} |",
        f"| lakes looked at | {r['lakes']} |",
        f"| rows missing | {r['missing']} |",
        f"| rows duplicated | {r['duplicated']} |",
        f"| rows altered | {r['altered']} |",
        f"| other differences | {len(r['problems'])} |",
        f"| runs that hung | {len(r.get('hung', []))} |",
        f"| commits that joined small files | {r.get('timesFilesWereJoined', 0)} |",
        f"| epochs that `foreach_batch` was told more than once (at least once is its promise) | {r['toldAgain']} |",
        f"| seconds | {r['seconds']:,} |",
        "",
        "### Kills by crash point",
        "",
        "| when | point | kills |",
        "|---|---|---|",
    ]
    for kind, points in sorted(by_kind.items()):
        lines += [
            f"| {kind} | {'SIGKILL at a random moment' if p == 'SIGKILL' else f'`{p}`'} | {n} |"
            for p, n in points.items()
        ]
    if r["problems"]:
        lines += ["", "### Differences", "", *(f"- {p}" for p in r["problems"][:50])]
    return "\n".join(lines) + "\n"
