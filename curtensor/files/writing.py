"""Files that appear whole or not at all."""

import contextlib
import functools
import os
import shutil
import stat
import tempfile
import uuid

from curtensor import _validation


@contextlib.contextmanager
def written_whole(path):
    """A binary file whose content is under the path once the block has ended, and never if it does not end well.

    Like `open`, it goes through symbolic links, refuses what may not be written, keeps the mode and, where it may, the
    owner of a file, and writes to devices and pipes. A file is replaced, so that other hard links keep what was there;
    only where its folder does not let it be replaced is it overwritten.
    """
    path = _validation.file_path(path)
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    is_stream = old is not None and not (stat.S_ISREG(old.st_mode) or stat.S_ISDIR(old.st_mode))
    may_be_made = bool(os.path.basename(path)) and os.access(folder, os.W_OK)
    if not is_stream and not (old is None and may_be_made):
        open(path, "ab").close()  # for the system's own complaint
    if is_stream or not may_be_made or open_file_number(path) is not None:
        with tempfile.TemporaryFile() as file:
            yield file
            copy_into(file, path)
        return

    temporary = os.path.join(folder, f".{uuid.uuid4().hex}.part")  # as no other process or thread calls its own
    mode = 0o666 if old is None else old.st_mode & 0o666
    try:
        with open(temporary, "xb", opener=functools.partial(os.open, mode=mode)) as file:
            if old is not None:
                take_after(temporary, target, old)
            yield file
        try:
            os.replace(temporary, target)
        except OSError:  # a file of another's in a folder such as /tmp, or one that is mounted by itself
            with open(temporary, "rb") as file:
                copy_into(file, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def take_after(path, target, old):
    """Give a new file the owner and group of another as far as that may be, and its mode."""
    for owner in ((old.st_uid, old.st_gid), (-1, old.st_gid)):
        with contextlib.suppress(OSError, AttributeError):  # AttributeError: not on Windows
            os.chown(path, *owner)
            break
    shutil.copystat(target, path)


def copy_into(file, path):
    """Write what a file holds to what is under a path, without replacing it."""
    file.seek(0)
    print(end="", flush=True)  # what was printed before comes before, where the path leads to the same
    number = open_file_number(path)
    is_file = number is None and os.path.isfile(path)
    with open(path if number is None else os.dup(number), "r+b" if is_file else "wb") as there:
        shutil.copyfileobj(file, there)
        if is_file:
            there.truncate()


def open_file_number(path):
    """N where a path, such as /dev/stdout, is another name of this process's open file N; else None."""
    own = os.path.realpath("/proc/self/fd")
    while os.path.islink(path):
        folder, name = os.path.split(path)
        if os.path.realpath(folder) == own:
            return int(name)
        path = os.path.join(folder, os.readlink(path))
    return None
