#!/usr/bin/env python3
"""Packs a built neuroql for people without Rust.

    package.py PROGRAM [--out DIR] [--only tarball|wheel] [--level 1..9]

writes DIR/neuroql-VERSION-TARGET.tar.xz (the program, README and LICENSE) and a wheel that installs the program with
`pip install`, for the processor that PROGRAM was built for, and prints their sizes, SHA-256 and the oldest glibc that
runs them. Uses only Python's standard library; reads the ELF file itself, so a program for another processor can be
packed, too.
"""
import argparse
import base64
import hashlib
import io
import pathlib
import re
import struct
import sys
import tarfile
import tomllib
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
# ELF's number of a machine: its name in a target triple, and in a wheel's platform tag.
MACHINES = {62: "x86_64", 183: "aarch64"}
# Fixed, so that the same program gives the same files.
EPOCH = (1980, 1, 1, 0, 0, 0)


def elf(program: bytes, path: pathlib.Path) -> tuple[str, tuple[int, int]]:
    """The machine of an ELF program, and the newest version of glibc that a symbol of it needs."""
    if program[:6] != b"\x7fELF\x02\x01":
        sys.exit(f"{path}: not a 64-bit little-endian ELF program; packages are made for Linux on x86-64 and aarch64")
    machine = struct.unpack_from("<H", program, 18)[0]
    if machine not in MACHINES:
        sys.exit(f"{path}: ELF machine {machine}; packages are made for x86-64 (62) and aarch64 (183)")
    offset, size, count = (*struct.unpack_from("<Q", program, 40), *struct.unpack_from("<HH", program, 58))
    sections = [struct.unpack_from("<IIQQQQIIQQ", program, offset + size * i) for i in range(count)]
    versions = []
    for section in sections:
        if section[1] != 0x6FFFFFFE:  # SHT_GNU_verneed
            continue
        strings = sections[section[6]][4]
        need = section[4]
        while True:
            _, entries, _, auxiliary, following = struct.unpack_from("<HHIII", program, need)
            entry = need + auxiliary
            for _ in range(entries):
                _, _, _, name, after = struct.unpack_from("<IHHII", program, entry)
                start = strings + name
                text = program[start:program.index(b"\0", start)].decode()
                if found := re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", text):
                    versions.append((int(found[1]), int(found[2])))
                entry += after
            if not following:
                break
            need += following
    if not versions:
        sys.exit(f"{path}: needs no glibc; packages are of programs that are linked with it")
    return MACHINES[machine], max(versions)


def tarball(out: pathlib.Path, name: str, program: bytes, level: int) -> pathlib.Path:
    path = out / f"{name}.tar.xz"
    with tarfile.open(path, "w:xz", preset=level) as archive:
        files = [("neuroql", program, 0o755)]
        files += [(file, (ROOT / file).read_bytes(), 0o644) for file in ("README.md", "LICENSE")]
        for file, content, mode in files:
            entry = tarfile.TarInfo(f"{name}/{file}")
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return path


def wheel(out: pathlib.Path, version: str, licence: str, platform: str, program: bytes, level: int) -> pathlib.Path:
    stem = f"neuroql-{version}"
    path = out / f"{stem}-py3-none-{platform}.whl"
    readme = (ROOT / "README.md").read_text()
    files = {
        f"{stem}.data/scripts/neuroql": (program, 0o755),
        f"{stem}.dist-info/METADATA": (
            f"Metadata-Version: 2.4\nName: neuroql\nVersion: {version}\n"
            "Summary: SQL over the neurons of language models: the neuroql program\n"
            f"License-Expression: {licence}\nLicense-File: LICENSE\n"
            f"Description-Content-Type: text/markdown\n\n{readme}".encode(),
            0o644,
        ),
        f"{stem}.dist-info/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: neuroql\nRoot-Is-Purelib: false\nTag: py3-none-{platform}\n".encode(),
            0o644,
        ),
        f"{stem}.dist-info/licenses/LICENSE": ((ROOT / "LICENSE").read_bytes(), 0o644),
    }
    record = f"{stem}.dist-info/RECORD"
    lines = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        def add(name: str, content: bytes, mode: int) -> None:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (0o100000 | mode) << 16
            archive.writestr(entry, content, compresslevel=level)

        for name, (content, mode) in files.items():
            add(name, content, mode)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(content)}")
        add(record, "\n".join([*lines, f"{record},,", ""]).encode(), 0o644)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("dist"))
    parser.add_argument("--only", choices=["tarball", "wheel"])
    parser.add_argument("--level", type=int, choices=range(1, 10), default=9, help="how hard to compress")
    given = parser.parse_args()
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    version, program = package["version"], given.program.read_bytes()
    machine, glibc = elf(program, given.program)
    given.out.mkdir(parents=True, exist_ok=True)
    made = []
    if given.only != "wheel":
        made.append(tarball(given.out, f"neuroql-{version}-{machine}-unknown-linux-gnu", program, given.level))
    if given.only != "tarball":
        platform = f"manylinux_{glibc[0]}_{glibc[1]}_{machine}"
        made.append(wheel(given.out, version, package["license"], platform, program, given.level))
    print(f"program: {len(program):,} bytes, {machine}, glibc {glibc[0]}.{glibc[1]} or newer")
    for path in made:
        content = path.read_bytes()
        print(f"{path.name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
