"""Names of rows, columns and slices as texts in JSON, from which the same kind of names is made again.

Names are an array of texts, or an index of pandas, which is not imported here before there is one. Nothing is pickled:
each kind of label that a file can hold is listed below, and others are refused when they are saved.
"""

import datetime
import json
import re

import numpy as np

from curtensor import _validation

SAVED = "texts, numbers, dates, times, periods, intervals, categories or tuples of these"
# of an index that holds Python's objects, texts, or numbers with gaps
OBJECTS = {"object", "str", "string", "boolean", "Float32", "Float64"}
OBJECTS |= {f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
NUMBERS = re.compile("bool|u?int(8|16|32|64)|float(32|64)|complex(64|128)")
ZONE = re.compile(r"(?!dateutil)[\w+-][\w+/:-]*")  # not a path to a file


def as_text(labels, name):
    """Names as a text; raises if they would not come back the same."""
    try:
        text = json.dumps(described(labels))
        again = from_text(text)
        if type(again) is not type(labels) or json.dumps(described(again)) != text:
            raise TypeError(f"{type(labels).__name__} of dtype {labels.dtype}")
    except (TypeError, ValueError, OverflowError) as error:
        raise _validation.complain(TypeError, name, f"labels which files hold ({SAVED})", error) from None
    return text


def from_text(text):
    """The names of which `as_text` made a text."""
    return restored(json.loads(text))


def described(labels, within=False):
    """What JSON holds of an array of texts, or of an index of pandas, perhaps within another one."""
    if isinstance(labels, np.ndarray):
        if labels.dtype.kind != "U":
            raise TypeError(f"dtype {labels.dtype}")
        return {"kind": "texts", "values": labels.tolist()}
    import pandas as pd

    if not isinstance(labels, pd.Index):
        raise TypeError(_validation.describe(labels))
    name = {"name": described_label(labels.name)} if labels.nlevels == 1 else {}
    if isinstance(labels, pd.MultiIndex):
        return {
            "kind": "levels",
            "levels": [described(labels.get_level_values(n), True) for n in range(labels.nlevels)],
        }
    if isinstance(labels, pd.CategoricalIndex):
        codes = {"codes": labels.codes.tolist(), "ordered": bool(labels.ordered)}
        return {"kind": "categories", "categories": described(labels.categories, True), **codes, **name}
    if isinstance(labels, pd.IntervalIndex):
        ends = {"left": described(labels.left, True), "right": described(labels.right, True)}
        return {"kind": "intervals", **ends, "closed": labels.closed, **name}
    if isinstance(labels, pd.PeriodIndex):
        return {"kind": "periods", "ticks": labels.asi8.tolist(), "freq": labels.freqstr, **name}
    if isinstance(labels, pd.DatetimeIndex):
        ticks = {"ticks": labels.asi8.tolist(), "unit": labels.unit}
        return {"kind": "times", **ticks, "zone": described_zone(labels.tz), **name}
    if isinstance(labels, pd.TimedeltaIndex):
        return {"kind": "durations", "ticks": labels.asi8.tolist(), "unit": labels.unit, **name}
    if isinstance(labels, pd.RangeIndex) and not within:  # there each number stands for itself, so that none is made up
        return {"kind": "range", "ends": [labels.start, labels.stop, labels.step], **name}
    kind = str(labels.dtype)
    if NUMBERS.fullmatch(kind):
        values = np.ascontiguousarray(labels.to_numpy())
        return {"kind": "numbers", "dtype": kind, "values": values.view(values.real.dtype).tolist(), **name}
    if kind in OBJECTS:
        return {"kind": "objects", "dtype": kind, "values": [described_label(label) for label in labels], **name}
    raise TypeError(f"dtype {kind}")


def described_zone(zone):
    """A time zone by its name, or by how far it is from UTC; None where there is none."""
    offset = None if zone is None else zone.utcoffset(None)
    if offset is not None:
        return str(datetime.timezone(offset))
    return None if zone is None else str(zone)


def described_label(label):
    """What JSON holds of a single label, or of the name of an index."""
    if label is None or type(label) in (str, bool, int, float):
        return label
    if type(label) is tuple:
        return {"tuple": [described_label(part) for part in label]}
    if type(label) is datetime.date:
        return {"date": label.isoformat()}
    import pandas as pd

    if label is pd.NA:
        return {"missing": True}
    times = datetime.datetime, datetime.timedelta, np.datetime64, np.timedelta64
    if isinstance(label, (*times, pd.Period, pd.Interval)):  # NaT among them
        return {"label": described(pd.Index([label]))}
    if isinstance(label, np.generic):
        return described_label(label.item())
    raise TypeError(_validation.describe(label))


def restored(description, within=False):
    """The array or index of which `described` made a description; raises if there is none.

    Pandas complains in many ways about what does not fit: all of them mean that it was not written here.
    """
    try:
        description = dict(description)
        kind = description.pop("kind")
        if kind == "range" and within:
            raise ValueError(f"kind {kind}")
        name = restored_label(description.pop("name", None))
        labels = KINDS[kind](**description)
        return labels if name is None else labels.rename(name)
    except ImportError:
        raise
    except Exception as error:
        what = f"a description of labels ({SAVED})"
        raise _validation.complain(ValueError, "it", what, _validation.describe_error(error)) from None


def restored_label(value):
    """A single label."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    return LABELS[kind](content)


def text_array(values):
    """An array of texts."""
    return np.array([*map(some_text, values)], dtype=str)


def some_text(value):
    """The value, which is a text."""
    if type(value) is not str:
        raise TypeError(f"{type(value)}")
    return value


def levels(levels):
    """An index of several levels."""
    import pandas as pd

    return pd.MultiIndex.from_arrays([restored(level, True) for level in levels])


def categories(categories, codes, ordered):
    """An index of categories."""
    import pandas as pd

    values = pd.Categorical.from_codes(exact_numbers(codes, "int64"), restored(categories, True), ordered=ordered)
    return pd.CategoricalIndex(values)


def intervals(left, right, closed):
    """An index of intervals."""
    import pandas as pd

    return pd.IntervalIndex.from_arrays(restored(left, True), restored(right, True), closed=closed)


def periods(ticks, freq):
    """An index of periods."""
    import pandas as pd

    return pd.PeriodIndex.from_ordinals(exact_numbers(ticks, "int64"), freq=freq)


def times(ticks, unit, zone):
    """An index of times in a unit and, unless that is None, a time zone."""
    import pandas as pd

    index = pd.DatetimeIndex(exact_numbers(ticks, "int64").view(f"M8[{unit}]"))
    if zone is None:
        return index
    if not ZONE.fullmatch(zone):
        raise ValueError(f"zone {zone}")
    return index.tz_localize("UTC").tz_convert(zone)


def durations(ticks, unit):
    """An index of durations in a unit."""
    import pandas as pd

    return pd.TimedeltaIndex(exact_numbers(ticks, "int64").view(f"m8[{unit}]"))


def evenly_spaced(ends):
    """An index of integers at equal steps."""
    import pandas as pd

    return pd.RangeIndex(*ends)


def numeric(dtype, values):
    """An index of numbers."""
    import pandas as pd

    return pd.Index(exact_numbers(values, dtype))


def objects(dtype, values):
    """An index of texts, numbers with gaps, or objects of several kinds."""
    import pandas as pd

    if dtype not in OBJECTS:
        raise ValueError(f"dtype {dtype}")
    return pd.Index([*map(restored_label, values)], dtype=dtype, tupleize_cols=False)


def exact_numbers(values, dtype):
    """An array of numbers of a dtype, each of which JSON held as it is."""
    if not NUMBERS.fullmatch(dtype):
        raise ValueError(f"dtype {dtype}")
    array = np.array(values, np.empty(0, dtype).real.dtype)
    if array.ndim != 1 or json.dumps(array.tolist()) != json.dumps(values):
        raise ValueError(f"values not of {dtype}")
    return array.view(dtype)


KINDS = {
    "texts": text_array,
    "levels": levels,
    "categories": categories,
    "intervals": intervals,
    "periods": periods,
    "times": times,
    "durations": durations,
    "range": evenly_spaced,
    "numbers": numeric,
    "objects": objects,
}
LABELS = {
    "tuple": lambda parts: tuple(map(restored_label, parts)),
    "date": datetime.date.fromisoformat,
    "missing": lambda _: pandas_na(),
    "label": lambda description: restored(description, True)[0],
}


def pandas_na():
    """What pandas has in the place of a missing value."""
    import pandas as pd

    return pd.NA
