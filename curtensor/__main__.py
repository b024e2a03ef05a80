"""The `curtensor` command."""

import argparse
import contextlib
import dataclasses
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence

import curtensor
from curtensor import _validation
from curtensor.files import EXAMPLE, EXAMPLE_TENSOR, read_matrix, written_whole
from curtensor.files.preparing import MISSING

RANKS = (5, 10, 20)
ABOUT = (
    f"{curtensor.__doc__} A randomized SVD gives less error for the work; CUR keeps real rows and columns, which have "
    "names and are as sparse as the data."
)
OVERVIEW = f"""curtensor {curtensor.__version__}: which columns and rows of a matrix say most about all the others

  curtensor select data.csv --columns 10          names of ten columns, one a line
  curtensor select data.csv --columns 10 -o choice.csv
                                                  and what each adds, and how well the others follow from them
  curtensor report data.csv --columns 10 -o report.html
                                                  the same as a page to look at
  curtensor decompose data.csv --rank 10 -o cur.npz
                                                  columns, rows and what stands between, for Python
  curtensor compare data.csv --rank 5 10 20       how close that comes, beside the SVD
  curtensor compare                               the same of data that come with curtensor

FILE is a table ({{tables}}),
arrays ({{arrays}}) or an image;
compressed by .gz, .bz2, .xz or .zip if it likes; - is standard input. curtensor COMMAND --help says the rest.
"""
TABLES = ".csv .tsv .txt .xlsx .parquet .feather .dta"
ARRAYS = ".npy .npz .mtx .mat .h5 .h5ad .nc .zarr"
FILE_HELP = (
    f"a table ({TABLES}), arrays ({ARRAYS}), an image, or - for standard input; it may be compressed; "
    "nothing is ever unpickled"
)
TABLE_ENDINGS = (".csv", ".parquet", ".xlsx")
# Options that say how FILE is read: as `read_matrix` has them.
READING = (
    "format",
    "dataset",
    "separator",
    "decimal",
    "encoding",
    "header",
    "row_names",
    "leave_out",
    "missing_values",
)
PREPARING = ("missing", "log1p", "center", "scale", "transpose")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser which complains in the one form."""

    def error(self, message):
        """Raise what `main` prints."""
        if message.endswith("required: FILE"):
            message += "; it comes before options that take several values"
        raise _validation.complain(ValueError, "arguments", f"as `{self.prog} --help` says", message)


def parser():
    """The arguments of the command; their values stay texts, which the checks read."""
    top = Parser(prog="curtensor", description=ABOUT)
    top.add_argument("--version", action="version", version=f"curtensor {curtensor.__version__}")
    commands = top.add_subparsers(metavar="select | report | decompose | compare")

    text = "choose columns, or rows, and print their names, one a line"
    add = command(commands, "select", run_select, text)
    add("file", metavar="FILE", help=FILE_HELP)
    add("--columns", metavar="N", help="how many columns to choose")
    add("--rows", metavar="N", help="how many rows to choose")
    add("--rank", metavar="K", help="the rank by which leverage is measured, where that is not N")
    add("--method", metavar="NAME", help="rule of choice, by default osinsky")
    add("--include", metavar="NAME", nargs="+", action="extend", default=[], help="choose these in any case")
    add("--exclude", metavar="NAME", nargs="+", action="extend", default=[], help="never choose these")
    output = f"write a table ({', '.join(TABLE_ENDINGS)}): what each adds, and how well each of the others follows"
    add("-o", "--output", metavar="OUT", help=output)
    how_file_is_read(add)

    text = "choose columns of a matrix, and write a page (HTML) of what they say of all the others"
    add = command(commands, "report", run_report, text)
    add("file", metavar="FILE", help=FILE_HELP)
    add("--columns", metavar="N", help="how many columns to choose; this or --rtol")
    add("--rtol", metavar="X", help="largest relative error in the Frobenius norm; held, or refused")
    add("--method", metavar="NAME", help="rule of choice, by default osinsky")
    add("-o", "--output", required=True, metavar="OUT.html", help="where to")
    how_file_is_read(add)

    text = "choose columns and rows of a matrix, or slices of a tensor, and write its CUR decomposition to a file"
    add = command(commands, "decompose", run_decompose, text)
    add("file", metavar="FILE", help=FILE_HELP)
    ranks = "number of columns and rows, or rank of each mode: 5 or 5,5,5 or 5 5 5; this or --rtol"
    add("--rank", "--ranks", metavar="K", help=ranks)
    add("--rtol", metavar="X", help="largest relative error in the Frobenius norm; held, or refused")
    output = f"where to: .npz, which CUR.load and the like read, or a table ({', '.join(TABLE_ENDINGS)}) of columns"
    add("-o", "--output", required=True, metavar="OUT", help=output)
    add("--n-columns", metavar="N", help="number of columns of a matrix, by default the rank")
    add("--n-rows", metavar="N", help="number of rows of a matrix, by default the rank")
    rules = (
        "rule of choice, by default osinsky; of a tensor auto, chidori, fiber or cross, or tt_svd or tt_cross, "
        "which write a tensor train"
    )
    add("--method", metavar="NAME", help=rules)
    add("--core", metavar="NAME", help="projection (the default) or intersection (the default for tensors)")
    add("--memory", metavar="BYTES", help="for blocks of a matrix on disk, such as 64M or 2G; by default 256M")
    how_file_is_read(add)

    text = "errors and CPU times of CUR and SVD side by side, of tensors those of CUR, Tucker decompositions and trains"
    add = command(commands, "compare", run_compare, text)
    add("file", nargs="?", metavar="FILE", help=f"{FILE_HELP}; by default the matrix shipped in the package")
    add("--tensor", action="store_true", help="without FILE: the tensor shipped in the package")
    ranks = "ranks, 5 10 or 5,10, by default those of 5, 10, 20 that the matrix or tensor has room for"
    add("--rank", "--ranks", metavar="K", help=ranks)
    add("--methods", metavar="NAME,...", help="some of the methods, by default all; svd or st_hosvd always comes first")
    add("--plot", metavar="OUT", help="write a plot: .png, .pdf, .svg (needs curtensor[plot])")
    add("--csv", metavar="OUT", help="write the table as comma-separated values")
    how_file_is_read(add)
    return top


def command(commands, name, run, text):
    """A subcommand; returns what adds an argument to it."""
    added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    added.set_defaults(run=run)
    return added.add_argument


def how_file_is_read(add):
    """The options that say how FILE is read and what is done to it."""
    add("--seed", metavar="N", help="make the run repeatable")
    add("--format", metavar="KIND", help="read FILE as if it ended so, such as csv")
    add("--dataset", metavar="NAME", help="which array, sheet, layer or variable of a file that holds several")
    add("--separator", metavar="TEXT", help="between the fields of a text, such as ';' or tab; by default found out")
    add("--decimal", metavar="TEXT", help="before the fraction of a number in a text, . or , ; by default found out")
    add("--encoding", metavar="NAME", help="of a text, such as latin-1; by default found out, and said")
    add("--header", metavar="N", help="line that holds the names of columns, from 1, or none; by default found out")
    names = "column that holds the names of rows, by name or counted from 0, or none; by default found out"
    add("--row-names", metavar="COLUMN", help=names)
    add("--leave-out", metavar="COLUMN", nargs="+", action="extend", help="columns to leave out, as are those of text")
    gaps = "texts that mean a missing value, besides NA and the like"
    add("--missing-values", metavar="TEXT", nargs="+", action="extend", help=gaps)
    add("--missing", choices=MISSING, default="refuse", help="what to do with missing values; by default refuse them")
    add("--log1p", action="store_true", help="take log(1 + x) of each value")
    flag = argparse.BooleanOptionalAction
    add("--center", action=flag, help="less the mean of each column: by default of tables whose columns have names")
    add("--scale", action=flag, help="over the deviation of each column: by default of tables whose columns have names")
    add("--transpose", action="store_true", help="exchange rows and columns first")


def run_select(args):
    """Print the names of what is chosen; write a table where asked for."""
    count = {1: given(args.columns, int, "--columns"), 0: given(args.rows, int, "--rows")}
    if (args.columns is None) == (args.rows is None):
        raise _validation.complain(
            ValueError, "--columns or --rows", "given, one of the two", "neither" if args.rows is None else "both"
        )
    axis = int(args.columns is not None)
    rank, seed = given(args.rank, int, "--rank"), given(args.seed, int, "--seed")
    if args.output is not None:
        table_path(args.output)
    matrix = read_as_told(args)
    A, names = read_in_blocks(matrix.A), matrix.names[axis]
    two_modes(A, matrix.source)
    option, noun = (("--rows", "rows"), ("--columns", "columns"))[axis]
    most = A.shape[axis] if args.method in ("leverage", "uniform") else min(A.shape)
    _validation.integer(count[axis], f"{option} of {matrix.source}", 1, most)
    choose = curtensor.select_columns if axis else curtensor.select_rows
    options = {"method": args.method, "rank": rank, "rng": seed}
    options = {name: value for name, value in options.items() if value is not None}
    for option in ("include", "exclude"):
        options[option] = [place_of_name(name, names, A.shape[axis], noun, option) for name in getattr(args, option)]
    indices = choose(A, count[axis], **options)

    if args.output is not None:
        write_table(args.output, table_of(curtensor.explain(A, indices, axis=axis), matrix))
    print(typed(str(matrix)), file=sys.stderr)
    print(*(indices if names is None else names[indices]), sep="\n")


def run_report(args):
    """Write a page of what is chosen and what follows from it."""
    from curtensor.report import report

    rank, rtol = given(args.columns, int, "--columns"), given(args.rtol, float, "--rtol")
    seed = given(args.seed, int, "--seed")
    output_path(args.output, "--output")
    _validation.one_of((".html", ".htm"), os.path.splitext(args.output)[1].lower(), "the ending of --output")
    matrix = read_as_told(args)
    A = read_in_blocks(matrix.A)
    two_modes(A, matrix.source)
    if rank is not None:
        _validation.integer(rank, f"--columns of {matrix.source}", 1, min(A.shape))
    options = {} if args.method is None else {"method": args.method}
    with progress_bar() as callback:
        on_disk = hasattr(A, "passes")
        options["callback"] = None if on_disk else callback
        result = curtensor.cur_decomposition(A, rank, rtol=rtol, rng=seed, **options)
    page = report(result, A, names=matrix.names, title=matrix.source, rng=seed)
    with written_whole(args.output) as file:
        file.write(page.encode())
    print(typed(str(matrix)))
    print(f"written: {args.output}; a browser shows it")


def run_decompose(args):
    """Write the decomposition, and print what was chosen."""
    ranks = None if args.rank is None else numbers_in(args.rank, "--rank")
    rtol, seed = given(args.rtol, float, "--rtol"), given(args.seed, int, "--seed")
    memory = None if args.memory is None else byte_count(args.memory, "--memory")
    sizes = {"n_columns": given(args.n_columns, int, "--n-columns"), "n_rows": given(args.n_rows, int, "--n-rows")}
    output_path(args.output, "--output")
    ending = os.path.splitext(args.output)[1].lower()
    _validation.one_of((".npz", *TABLE_ENDINGS), ending, "the ending of --output")
    matrix = read_as_told(args)
    options = {"method": args.method, "core": args.core, "rtol": rtol, "rng": seed} | sizes
    options = {name: value for name, value in options.items() if value is not None}
    with progress_bar() as callback:
        matrix = dataclasses.replace(matrix, A=read_in_blocks(matrix.A, memory, callback))
        is_tensor = len(matrix.A.shape) > 2
        if is_tensor:
            _validation.one_of((".npz",), ending, "the ending of --output for a tensor")
        decompose = decompose_tensor if is_tensor else decompose_matrix
        result, lines = decompose(matrix, ranks, options, callback)
    if ending == ".npz":
        result.save(args.output)
    else:
        write_table(args.output, table_of(result.explain(matrix.A), matrix))
    print(typed(str(matrix)), *lines, sep="\n")
    print(f"error estimate: {result.error_estimate:.4g} of the Frobenius norm")
    reader = f"; curtensor.{type(result).__name__}.load reads it" if ending == ".npz" else ""
    print(f"written: {args.output}, {os.path.getsize(args.output)} bytes{reader}")


def run_compare(args):
    """Print the table; write plot and CSV where asked for."""
    from curtensor.comparison import compare, image_format

    ranks = None if args.rank is None else numbers_in(args.rank, "--rank")
    methods = None if args.methods is None else args.methods.split(",")
    shipped = EXAMPLE_TENSOR if args.tensor else EXAMPLE
    _validation.only_without(args.tensor, "--tensor", args.file, "FILE")
    seed = given(args.seed, int, "--seed")
    if args.csv is not None:
        output_path(args.csv, "--csv")
    if args.plot is not None:
        output_path(args.plot, "--plot")
        image_format(args.plot)
    matrix = read_as_told(args, args.file or shipped)
    A = read_in_blocks(matrix.A)
    if ranks is None:
        largest = max if len(A.shape) > 2 else min
        ranks = [k for k in RANKS if k <= largest(A.shape, default=0)] or 1
    with progress_bar() as callback:
        comparison = compare(A, ranks, methods=methods, rng=seed, callback=callback)

    print(typed(str(matrix)) + ("" if args.file else " (shipped with curtensor)"), end="\n\n")
    print(comparison)
    if args.csv is not None:
        comparison.to_csv(args.csv)
    if args.plot is not None:
        comparison.plot(args.plot)


def read_as_told(args, file=None):
    """FILE, read and prepared as the options say."""
    options = {name: getattr(args, name) for name in READING + PREPARING}
    for name in ("header", "row_names"):
        options[name] = False if options[name] == "none" else options[name]
    if isinstance(options["header"], str):
        options["header"] = number_in(options["header"], int, "--header")
    return read_matrix(args.file if file is None else file, **options)


def read_in_blocks(A, memory=None, callback=None):
    """A matrix in a store, or in a large .npy file, as `row_blocks`; its callback tells how far each pass is."""
    import numpy as np

    from curtensor.operands import BLOCK_BYTES

    in_memory = hasattr(A, "toarray") or (isinstance(A, np.ndarray) and not isinstance(A, np.memmap))
    other = in_memory or len(getattr(A, "shape", (0, 0))) > 2
    _validation.only_without(memory is not None, "--memory", other, "what is no matrix in a .npy, .h5 or .zarr store")
    if other or (memory is None and getattr(A, "nbytes", np.inf) <= BLOCK_BYTES and isinstance(A, np.memmap)):
        return A
    return curtensor.row_blocks(A, block_bytes=memory or BLOCK_BYTES, callback=callback)


def decompose_matrix(matrix, ranks, options, callback):
    """The CUR, and lines which say what was chosen and, of a matrix on disk, which moves the bar itself, read."""
    rank = None if ranks is None else only_one(ranks, "--rank of a matrix")
    on_disk = hasattr(matrix.A, "passes")
    result = curtensor.cur_decomposition(matrix.A, rank, **options, callback=None if on_disk else callback)
    columns, rows = names_of(matrix.col_names, result.col_indices), names_of(matrix.row_names, result.row_indices)
    result = dataclasses.replace(result, names=(rows, columns))
    lines = [listing("columns", result.col_indices, columns), listing("rows", result.row_indices, rows)]
    if on_disk:
        lines.append(f"read: {matrix.A.passes} passes, {matrix.A.bytes_read} bytes")
    return result, lines


def decompose_tensor(tensor, ranks, options, callback):
    """The tensor CUR, and lines which say what was chosen."""
    for name in ("n_columns", "n_rows"):
        _validation.only_without(name in options, f"--{name.replace('_', '-')}", True, "a tensor")
    ranks = ranks[0] if ranks is not None and len(ranks) == 1 else ranks
    if options.get("method") in ("tt_svd", "tt_cross"):
        return decompose_train(tensor, ranks, options, callback)
    result = curtensor.tensor_cur(tensor.A, ranks, **options, callback=callback)
    chosen = [names_of(own, indices) for own, indices in zip(tensor.names, result.indices, strict=True)]
    result = dataclasses.replace(result, names=tuple(chosen))
    lines = [
        listing(f"mode {n}", indices, own) for n, (indices, own) in enumerate(zip(result.indices, chosen, strict=True))
    ]
    return result, [*lines, f"read: {result.n_entries_read} entries; {'' if result.converged else 'not '}converged"]


def decompose_train(tensor, ranks, options, callback):
    """The tensor train, and lines which say of what ranks it is."""
    method = options.pop("method")
    _validation.only_without("core" in options, "--core", True, f"--method {method}")
    if method == "tt_svd":
        result = curtensor.tt_svd(tensor.A, ranks, rtol=options.get("rtol"))
    else:
        result = curtensor.tt_cross(tensor.A, ranks, **options, callback=callback)
    lines = [f"ranks: {', '.join(map(str, result.ranks))}", f"holds: {result.n_stored} numbers"]
    return result, [*lines, f"read: {result.n_entries_read} entries; {'' if result.converged else 'not '}converged"]


def table_of(explanation, matrix):
    """One table of what was chosen, in order, with what each adds, and of how well each of the others follows."""
    from curtensor.files.matrix import package

    pandas = package("pandas", "a table of the choice")
    explanation = dataclasses.replace(explanation, names=matrix.names)
    choices = explanation.choices.rename(columns={"explained": "explained_so_far"})
    choices.insert(choices.columns.get_loc("adds"), "order", range(1, len(choices) + 1))
    table = pandas.concat([choices.assign(explained=1.0), explanation.others], ignore_index=True)
    return table.astype({"order": "Int64"})


def write_table(path, table):
    """Write a DataFrame by the ending of its path, whole or not at all."""
    import io

    ending, buffer = os.path.splitext(path)[1].lower(), io.BytesIO()
    getattr(table, {".csv": "to_csv", ".parquet": "to_parquet", ".xlsx": "to_excel"}[ending])(buffer, index=False)
    with written_whole(path) as file:
        file.write(buffer.getvalue())


def place_of_name(name, names, size, noun, option):
    """The number of a row or column by its name, or by its number from 0 where there are no names."""
    known = [] if names is None else names.tolist()
    if name in known:
        return known.index(name)
    if names is not None or not name.isdecimal() or int(name) >= size:
        what = f"names of {noun}" if names is not None else f"numbers from 0 to {size - 1}"
        raise _validation.complain(ValueError, f"--{option}", what, _validation.describe(name))
    return int(name)


def numbers_in(text, name):
    """The integers between the commas of an option's text."""
    return [number_in(part, int, name) for part in text.split(",")]


def given(text, kind, name):
    """The number that an option's text says; None where the option was not given."""
    return None if text is None else number_in(text, kind, name)


def names_of(names, indices):
    """The chosen of the names, where there are any."""
    return None if names is None else names[indices]


def listing(title, indices, names):
    """Indices, each with its name where there are names, wrapped under a title."""
    parts = map(str, indices) if names is None else (f"{i} {name}" for i, name in zip(indices, names, strict=True))
    return textwrap.fill(f"{title} ({len(indices)}): " + ", ".join(parts), 100, subsequent_indent="    ")


@contextlib.contextmanager
def progress_bar():
    """A callback which moves a bar on stderr, where that is a terminal."""
    from tqdm import tqdm

    layout = "{percentage:3.0f}% {bar:40} {elapsed}"
    with tqdm(total=1.0, bar_format=layout, leave=False, disable=not sys.stderr.isatty()) as bar:
        yield lambda progress: bar.update(progress - bar.n)


def ranks_joined(argv):
    """Arguments in which the numbers after --rank are one, with commas between: what follows may be FILE."""
    joined, after_rank = [], False
    for text in argv:
        is_rank = re.fullmatch(r"\d+(,\d+)*,?", text) is not None
        if after_rank and is_rank and joined[-1] not in ("--rank", "--ranks"):
            joined[-1] = f"{joined[-1].rstrip(',')},{text}"
        else:
            joined.append(text)
        after_rank = text in ("--rank", "--ranks") or (after_rank and is_rank)
    return joined


def typed(message):
    """A message in which arguments of `read_matrix` stand as options of the command."""
    names = "|".join(READING + PREPARING)

    def as_option(found):
        name, value = found[1].replace("_", "-"), found[2].strip("[]").strip("\"'")
        if value in ("", "False"):
            return f"--{'no-' if found[1] in ('center', 'scale') else ''}{name}" + (
                "" if not value or found[1] in ("center", "scale") else " none"
            )
        return f"--{name} {shlex.quote(value)}"

    if "got NaN or infinity" in message:
        message += "; try --missing drop-rows, drop-columns, mean or median"
    message = re.sub(rf"^({names})(?= must be )", lambda found: f"--{found[0].replace('_', '-')}", message)
    return re.sub(rf"\b({names})=(\[?\"[^\"]*\"\]?|[\w.-]*)", as_option, message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, or 2 after one line of complaint, or 130 if interrupted."""
    try:
        args = parser().parse_args(ranks_joined(sys.argv[1:] if argv is None else argv))
        if hasattr(args, "run"):
            args.run(args)
        else:
            print(OVERVIEW.format(tables=TABLES, arrays=ARRAYS), end="")
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("curtensor: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, OSError, MemoryError, OverflowError, ImportError) as error:
        print(f"curtensor: {typed(_validation.describe_error(error))}", file=sys.stderr)
        return 2
    return 0


def number_in(text, kind, name):
    """The int or float that a text of the command line says."""
    try:
        return kind(text)
    except ValueError:
        what = "an integer" if kind is int else "a number"
        raise _validation.complain(ValueError, name, what, _validation.describe(text)) from None


def only_one(values, name):
    """The only one of some values."""
    if len(values) != 1:
        raise _validation.complain(ValueError, name, "one integer", _validation.describe(values))
    return values[0]


def two_modes(A, name):
    """Raise if what a file holds is no matrix."""
    if len(A.shape) != 2:
        raise _validation.complain(ValueError, name, "a matrix", f"a tensor of shape {tuple(A.shape)}")


def table_path(path):
    """The path, if a table can be written to it."""
    output_path(path, "--output")
    _validation.one_of(TABLE_ENDINGS, os.path.splitext(path)[1].lower(), "the ending of --output")
    return path


def output_path(path, name):
    """The path, if there is a file, a device or a pipe that can be written to, or a file can come to be there."""
    folder = os.path.dirname(os.path.realpath(path))
    fits = not os.path.isdir(path) if os.path.exists(path) else os.path.isdir(folder)
    if not fits or not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise _validation.complain(
            ValueError, name, "a file in a folder that can be written to", _validation.describe(os.fspath(path))
        )
    return path


def byte_count(text, name):
    """The number of bytes that a text says, such as 64M or 2GiB."""
    found = re.fullmatch(r"(\d+)([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise _validation.complain(ValueError, name, "a number of bytes such as 512M or 2G", _validation.describe(text))
    return int(found[1]) << 10 * " KMGT".index(found[2].upper() or " ")


if __name__ == "__main__":
    sys.exit(main())
