"""asv's pages, which need nothing from the network once made: ``python -m benchmarks.publish``, then ``asv preview``.

``asv publish``, and then the JavaScript libraries that its page would load from elsewhere are put beside it, by npm.
Where there is no npm, or it cannot reach its registry, the pages stay as asv makes them, and the exit status is 1.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.run import ROOT, asv

PAGES = ROOT / ".asv" / "html"
# file that asv's page asks for -> the npm package which holds it, and where
LIBRARIES = {
    "jquery-3.3.1.min.js": ("jquery@3.3.1", "dist/jquery.min.js"),
    "jquery.flot.min.js": ("flot@0.8.3", "jquery.flot.js"),
    "jquery.flot.time.min.js": ("flot@0.8.3", "jquery.flot.time.js"),
    "jquery.flot.selection.min.js": ("flot@0.8.3", "jquery.flot.selection.js"),
    "jquery.flot.categories.min.js": ("flot@0.8.3", "jquery.flot.categories.js"),
    "jquery.flot.orderBars.js": ("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    "stupidtable.min.js": ("stupid-table-plugin@1.1.3", "stupidtable.min.js"),
    "md5.min.js": ("blueimp-md5@2.19.0", "js/md5.min.js"),
    "bootstrap.min.js": ("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "bootstrap.min.css": ("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
}
# address up to the name of the file, and what guards a file from elsewhere
ELSEWHERE = re.compile(r'(src|href)="https://[^"]*/([^"/]+\.(?:js|css))" integrity="[^"]*" crossorigin="[^"]*"')


def installed(folder):
    """Put the libraries in a folder; whether npm did."""
    packages = sorted({package for package, _ in LIBRARIES.values()})
    options = ["--prefix", folder, "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]
    npm = shutil.which("npm")
    return npm is not None and subprocess.run([npm, "install", *options, *packages]).returncode == 0


def bring_home(pages, modules):
    """Copy the libraries out of npm's folder into that of the pages, and point the page to them."""
    index = pages / "index.html"
    page = index.read_text()
    for _, name in ELSEWHERE.findall(page):
        package, path = LIBRARIES[name]
        shutil.copy(modules / package.split("@")[0] / path, pages / name)
    index.write_text(ELSEWHERE.sub(r'\1="\2"', page))


def main():
    status = asv("publish")
    if status:
        return status
    with tempfile.TemporaryDirectory() as folder:
        if not installed(folder):
            print("npm must be there, and reach its registry, for pages that need no network")
            return 1
        bring_home(PAGES, Path(folder) / "node_modules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
