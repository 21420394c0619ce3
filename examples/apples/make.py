"""Makes the apples of the examples: 600 rows with the measures of an apple and its sort.

    python3 examples/apples/make.py             # apples.csv, the same each time
    python3 examples/apples/make.py --parquet   # apples.parquet besides, by pyarrow (pip install pyarrow)
"""

import csv
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent
# Means of diameter in mm, sweetness in degrees Brix and firmness in newtons, and how often an apple is green, red and yellow.
SORTS = {
    "Boskoop": ((84.0, 11.5, 72.0), (6, 3, 1)),
    "Gala": ((68.0, 13.5, 62.0), (0, 8, 2)),
    "Golden Delicious": ((74.0, 14.0, 54.0), (3, 0, 7)),
}
COLOURS = ("green", "red", "yellow")


def apples(count=600, seed=15):
    draw = random.Random(seed)
    for number in range(1, count + 1):
        sort = draw.choice(list(SORTS))
        (diameter, sweetness, firmness), colours = SORTS[sort]
        diameter = draw.gauss(diameter, 4.0)
        yield {
            "id": number,
            "diameter_mm": round(diameter, 1),
            "weight_g": round(0.00042 * diameter**3 * draw.gauss(1.0, 0.05), 1),
            "sweetness": round(draw.gauss(sweetness, 0.6), 1),
            # One in twelve was not measured.
            "firmness": None if draw.random() < 1 / 12 else round(draw.gauss(firmness, 4.0), 1),
            "colour": draw.choices(COLOURS, colours)[0],
            "sort": sort,
        }


rows = list(apples())
with open(HERE / "apples.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
if "--parquet" in sys.argv[1:]:
    import pyarrow
    from pyarrow import parquet

    columns = {name: [row[name] for row in rows] for name in rows[0]}
    parquet.write_table(pyarrow.table(columns), HERE / "apples.parquet", row_group_size=250)
