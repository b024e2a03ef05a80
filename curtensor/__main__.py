"""The `curtensor` command."""

import argparse
import contextlib
import dataclasses
import os
import sys
import textwrap
from collections.abc import Sequence

import curtensor
from curtensor import _validation
from curtensor.files import example_matrix, read_matrix

RANKS = (5, 10, 20)
ABOUT = (
    f"{curtensor.__doc__} A randomized SVD gives less error for the work; CUR keeps real rows and columns, which have "
    "names and are as sparse as the data."
)
FILE_HELP = (
    "a matrix: .npy, .npz (one array, or as scipy.sparse.save_npz writes it), .mtx, or .csv of real numbers (with or "
    "without a line of column names and a column of row names); nothing is ever unpickled"
)


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

    text = "errors and CPU times of CUR and SVD side by side"
    add = command(commands, "compare", run_compare, text)
    add("file", nargs="?", metavar="FILE", help=f"{FILE_HELP}; by default the matrix shipped in the package")
    add("--rank", metavar="K,K,...", help="ranks, by default those of 5,10,20 that the matrix has room for")
    add("--methods", metavar="NAME,...", help="some of the methods, by default all; the SVD is always among them")
    add("--plot", metavar="FILE", help="write a plot: .png, .pdf, .svg (needs curtensor[plot])")
    add("--csv", metavar="FILE", help="write the table as comma-separated values")
    add("--seed", metavar="N", help="make the run repeatable")

    text = "choose columns and rows of a matrix, and write its CUR decomposition to a file"
    add = command(commands, "decompose", run_decompose, text)
    add("file", metavar="FILE", help=FILE_HELP)
    add("--rank", metavar="K", help="number of columns and rows; either this or --rtol")
    add("--rtol", metavar="X", help="largest relative error in the Frobenius norm; held, or refused")
    add("-o", "--output", required=True, metavar="OUT.npz", help="where to; curtensor.CUR.load reads it")
    add("--n-columns", metavar="N", help="number of columns, by default the rank")
    add("--n-rows", metavar="N", help="number of rows, by default the rank")
    add("--method", default="osinsky", metavar="NAME", help="rule of choice, by default osinsky")
    add("--core", default="projection", metavar="NAME", help="projection (the default) or intersection")
    add("--seed", metavar="N", help="make the run repeatable")
    return top


def command(commands, name, run, text):
    """A subcommand; returns what adds an argument to it."""
    added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    added.set_defaults(run=run)
    return added.add_argument


def run_compare(args):
    """Print the table; write plot and CSV where asked for."""
    from curtensor.comparison import METHODS, compare, image_format

    ranks = None if args.rank is None else [_validation.number_in(k, int, "--rank") for k in args.rank.split(",")]
    methods = list(METHODS) if args.methods is None else args.methods.split(",")
    seed = given(args.seed, int, "--seed")
    if args.csv is not None:
        _validation.output_path(args.csv, "--csv")
    if args.plot is not None:
        _validation.output_path(args.plot, "--plot")
        image_format(args.plot)
    matrix = example_matrix() if args.file is None else read_matrix(args.file)
    if ranks is None:
        ranks = [k for k in RANKS if k <= min(matrix.A.shape, default=0)] or 1

    with progress_bar() as callback:
        comparison = compare(matrix.A, ranks, methods=methods, rng=seed, callback=callback)
    print(f"{args.file or 'breast_cancer.csv, shipped with curtensor'}: {kind_of(matrix.A)}\n")
    print(comparison)
    if args.csv is not None:
        comparison.to_csv(args.csv)
    if args.plot is not None:
        comparison.plot(args.plot)


def run_decompose(args):
    """Write the decomposition, and print what was chosen."""
    rank, rtol = given(args.rank, int, "--rank"), given(args.rtol, float, "--rtol")
    n_columns, n_rows = given(args.n_columns, int, "--n-columns"), given(args.n_rows, int, "--n-rows")
    seed = given(args.seed, int, "--seed")
    _validation.output_path(args.output, "--output")
    _validation.one_of((".npz",), os.path.splitext(args.output)[1].lower(), "the ending of --output")
    matrix = read_matrix(args.file)

    with progress_bar() as callback:
        result = curtensor.cur_decomposition(
            matrix.A, rank, rtol=rtol, n_columns=n_columns, n_rows=n_rows, method=args.method, core=args.core,
            rng=seed, callback=callback,
        )  # fmt: skip
    columns, rows = names_of(matrix.col_names, result.col_indices), names_of(matrix.row_names, result.row_indices)
    result = dataclasses.replace(result, col_names=columns, row_names=rows)
    result.save(args.output)
    print(f"{args.file}: {kind_of(matrix.A)}")
    print(listing("columns", result.col_indices, columns))
    print(listing("rows", result.row_indices, rows))
    print(f"error estimate: {result.error_estimate:.4g} of the Frobenius norm")
    print(f"written: {args.output}, {os.path.getsize(args.output)} bytes; curtensor.CUR.load reads it")


def given(text, kind, name):
    """The number that an option's text says; None where the option was not given."""
    return None if text is None else _validation.number_in(text, kind, name)


def names_of(names, indices):
    """The chosen of the names, where there are any."""
    return None if names is None else names[indices]


def kind_of(A):
    """Shape, dtype and number of stored entries if sparse, in words."""
    sparse = f", sparse with {A.nnz} entries" if hasattr(A, "nnz") else ""
    return f"{A.shape[0]} x {A.shape[1]}, {A.dtype}{sparse}"


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


if __name__ == "__main__":
    sys.exit(main())
