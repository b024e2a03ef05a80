"""The `curtensor` command."""

import argparse
import contextlib
import dataclasses
import os
import re
import sys
import textwrap
from collections.abc import Sequence

import curtensor
from curtensor import _validation
from curtensor.files import EXAMPLE, EXAMPLE_TENSOR, read_matrix

RANKS = (5, 10, 20)
ABOUT = (
    f"{curtensor.__doc__} A randomized SVD gives less error for the work; CUR keeps real rows and columns, which have "
    "names and are as sparse as the data."
)
FILE_HELP = (
    "a matrix: .npy, .npz (one array, or as scipy.sparse.save_npz writes it), .h5, .zarr, .mtx, or .csv of real "
    "numbers (with or without a line of column names and a column of row names), or a tensor: .npy, .npz, .h5 or "
    ".zarr; nothing is ever unpickled"
)
DATASET_HELP = "which array, or group with a CSR matrix, of an .h5 file or a .zarr store that holds several"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser which complains in the one form."""

    def error(self, message):
        """Raise what `main` prints."""
        raise _validation.complain(ValueError, "arguments", f"as `{self.prog} --help` says", message)


def parser():
    """The arguments of the command; their values stay texts, which the checks read."""
    top = Parser(prog="curtensor", description=ABOUT)
    top.add_argument("--version", action="version", version=f"curtensor {curtensor.__version__}")
    commands = top.add_subparsers(required=True, metavar="compare | decompose")

    text = "errors and CPU times of CUR and SVD side by side, of tensors those of CUR, Tucker decompositions and trains"
    add = command(commands, "compare", run_compare, text)
    add("file", nargs="?", metavar="FILE", help=f"{FILE_HELP}; by default the matrix shipped in the package")
    add("--tensor", action="store_true", help="without FILE: the tensor shipped in the package")
    add(
        "--rank",
        "--ranks",
        metavar="K,K,...",
        help="ranks, by default those of 5,10,20 that the matrix or tensor has room for",
    )
    add("--methods", metavar="NAME,...", help="some of the methods, by default all; svd or st_hosvd always comes first")
    add("--plot", metavar="FILE", help="write a plot: .png, .pdf, .svg (needs curtensor[plot])")
    add("--csv", metavar="FILE", help="write the table as comma-separated values")
    add("--dataset", metavar="NAME", help=DATASET_HELP)
    add("--seed", metavar="N", help="make the run repeatable")

    text = "choose columns and rows of a matrix, or slices of a tensor, and write its CUR decomposition to a file"
    add = command(commands, "decompose", run_decompose, text)
    add("file", metavar="FILE", help=FILE_HELP)
    add(
        "--rank",
        "--ranks",
        metavar="K[,K,...]",
        help="number of columns and rows, or rank of each mode; this or --rtol",
    )
    add("--rtol", metavar="X", help="largest relative error in the Frobenius norm; held, or refused")
    add(
        "-o",
        "--output",
        required=True,
        metavar="OUT.npz",
        help="where to; CUR.load, TensorCUR.load or TensorTrain.load reads it",
    )
    add("--n-columns", metavar="N", help="number of columns of a matrix, by default the rank")
    add("--n-rows", metavar="N", help="number of rows of a matrix, by default the rank")
    add(
        "--method",
        metavar="NAME",
        help="rule of choice, by default osinsky; of a tensor auto, chidori, fiber or cross, or tt_svd or tt_cross, "
        "which write a tensor train",
    )
    add("--core", metavar="NAME", help="projection (the default) or intersection (the default for tensors)")
    add("--dataset", metavar="NAME", help=DATASET_HELP)
    add("--memory", metavar="BYTES", help="for blocks of a matrix on disk, such as 64M or 2G; by default 256M")
    add("--seed", metavar="N", help="make the run repeatable")
    return top


def command(commands, name, run, text):
    """A subcommand; returns what adds an argument to it."""
    added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    added.set_defaults(run=run)
    return added.add_argument


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
    A = read_in_blocks(read_matrix(args.file or shipped, dataset=args.dataset).A)
    if ranks is None:
        largest = max if len(A.shape) > 2 else min
        ranks = [k for k in RANKS if k <= largest(A.shape, default=0)] or 1
    with progress_bar() as callback:
        comparison = compare(A, ranks, methods=methods, rng=seed, callback=callback)

    print(f"{args.file or f'{shipped.name}, shipped with curtensor'}: {kind_in_words(A)}\n")
    print(comparison)
    if args.csv is not None:
        comparison.to_csv(args.csv)
    if args.plot is not None:
        comparison.plot(args.plot)


def run_decompose(args):
    """Write the decomposition, and print what was chosen."""
    ranks = None if args.rank is None else numbers_in(args.rank, "--rank")
    rtol, seed = given(args.rtol, float, "--rtol"), given(args.seed, int, "--seed")
    memory = None if args.memory is None else byte_count(args.memory, "--memory")
    sizes = {"n_columns": given(args.n_columns, int, "--n-columns"), "n_rows": given(args.n_rows, int, "--n-rows")}
    output_path(args.output, "--output")
    _validation.one_of((".npz",), os.path.splitext(args.output)[1].lower(), "the ending of --output")
    matrix = read_matrix(args.file, dataset=args.dataset)
    options = {"method": args.method, "core": args.core, "rtol": rtol, "rng": seed} | sizes
    options = {name: value for name, value in options.items() if value is not None}
    with progress_bar() as callback:
        matrix = matrix._replace(A=read_in_blocks(matrix.A, memory, callback))
        decompose = decompose_tensor if len(matrix.A.shape) > 2 else decompose_matrix
        result, lines = decompose(matrix, ranks, options, callback)
    result.save(args.output)
    print(f"{args.file}: {kind_in_words(matrix.A)}", *lines, sep="\n")
    print(f"error estimate: {result.error_estimate:.4g} of the Frobenius norm")
    reader = f"curtensor.{type(result).__name__}.load"
    print(f"written: {args.output}, {os.path.getsize(args.output)} bytes; {reader} reads it")


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
    lines = [listing(f"mode {n}", indices, None) for n, indices in enumerate(result.indices)]
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


def numbers_in(text, name):
    """The integers between the commas of an option's text."""
    return [number_in(part, int, name) for part in text.split(",")]


def given(text, kind, name):
    """The number that an option's text says; None where the option was not given."""
    return None if text is None else number_in(text, kind, name)


def names_of(names, indices):
    """The chosen of the names, where there are any."""
    return None if names is None else names[indices]


def kind_in_words(A):
    """Shape, dtype and number of stored entries if sparse, in words."""
    sparse = f", sparse with {A.nnz} entries" if hasattr(A, "nnz") else ""
    return f"{' x '.join(map(str, A.shape))}, {A.dtype}{sparse}"


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, or 2 after one line of complaint, or 130 if interrupted."""
    try:
        args = parser().parse_args(argv)
        args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("curtensor: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, TypeError, OSError, MemoryError, OverflowError, ImportError) as error:
        print(f"curtensor: {_validation.describe_error(error)}", file=sys.stderr)
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
