"""Sums the second column of every CSV file in a directory: batch.py IN OUT."""

import csv
import json
import os
import sys
from pathlib import Path

source, target = Path(sys.argv[1]), Path(sys.argv[2])
totals = {}
for file in sorted(source.glob("*.csv")):
    with file.open() as rows:
        totals[file.name] = sum(float(row[1]) for row in csv.reader(rows))
    print(f"{file.name}: {totals[file.name]}", flush=True)

with (target / "totals.csv").open("w") as out:
    csv.writer(out).writerows(totals.items())
# What the workflow gets.
if result := os.environ.get("JOB_RESULT_FILE"):
    Path(result).write_text(json.dumps({"files": len(totals), "total": sum(totals.values())}))
