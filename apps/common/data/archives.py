"""Members of tar and zip archives, read in memory; nothing is ever written to disk."""

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath

from apps.common.data.reading import Progress, is_visible, readable_size, require_memory
from apps.common.errors import UserError

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
MAX_MEMBERS = 2_000_000
MAX_READ = 256_000_000
ADVICE = "Unpack it and give the folder, or give a smaller archive"


def is_archive(path):
    """Whether the file's name says that it is a tar or zip archive."""
    return path.name.lower().endswith(ENDINGS)


def refuse_archive(path):
    """Refuse an archive where a folder is expected.

    Raises:
        UserError: It is one, by its name.
    """
    if is_archive(path) and path.is_file():
        raise UserError(f"{path}: an archive, which is not read here. Unpack it and give the folder")


def read_members(path, wanted):
    """Contents of an archive's files as `(members, other names)`, hidden ones left out.

    Args:
        path: The archive.
        wanted: Function of a member's name: whether its content is needed.
    Returns: `[(name, bytes)]` sorted by name, and the names of the files that were not wanted.
    Raises:
        UserError: The archive is damaged, needs more memory than there is (judged on the sizes it declares), or holds
            a link, a device, an absolute name or one that leaves its folder.
    """
    read = _zip_members if path.name.lower().endswith(".zip") else _tar_members
    members, others = [], []
    try:
        for name, content in read(path, lambda name: is_shown(name) and wanted(name)):
            if content is not None:
                members.append((name, content))
            elif is_shown(name):
                others.append(name)
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged, or not an archive ({error}). Copy or download it again") from None
    except (RuntimeError, NotImplementedError) as error:  # zipfile's words for a password or an unknown compression
        raise UserError(f"{path}: cannot be unpacked ({error}). Unpack it and give the folder") from None
    return sorted(members), others


def is_shown(name):
    """Whether no part of the member's name is hidden."""
    return all(is_visible(part) for part in PurePosixPath(name).parts)


def _tar_members(path, wanted):
    total = 0
    progress = Progress(path.stat().st_size, "bytes of the archive unpacked")
    with open(path, "rb") as file, tarfile.open(fileobj=_Bounded(file, path), mode="r:") as archive:
        for count, member in enumerate(archive):
            # A member's size is declared before its content, so a bomb is refused without being unpacked.
            total += member.size
            _check(path, member.name, total, count)
            if member.isdir():
                continue
            if not member.isfile():
                raise UserError(f"{path}: {member.name!r} is a link or a device. {ADVICE} of plain files")
            yield member.name, archive.extractfile(member).read() if wanted(member.name) else None
            archive.members.clear()
            progress.show(file.tell())


class _Bounded:
    """A file, unpacked on the way, that refuses to be read in one enormous piece.

    A tar's extended headers are read whole by `tarfile`, whatever size they declare.
    """

    def __init__(self, file, path):
        magic = file.read(6)
        file.seek(0)
        unpack = {b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open, b"BZ": bz2.open}.get(magic[:2])
        self.file, self.path = unpack(file) if unpack else file, path
        self.seek, self.tell = self.file.seek, self.file.tell

    def read(self, size=-1):
        if not 0 <= size <= MAX_READ:
            raise UserError(f"{self.path}: one member is larger than {readable_size(MAX_READ)}. {ADVICE}")
        return self.file.read(size)


def _zip_members(path, wanted):
    with zipfile.ZipFile(path) as archive:
        total = 0
        for count, member in enumerate(archive.infolist()):
            total += member.file_size
            _check(path, member.filename, total, count)
            if (member.external_attr >> 16) & 0o170000 == 0o120000:
                raise UserError(f"{path}: {member.filename!r} is a link. {ADVICE} of plain files")
            if member.file_size > MAX_READ and wanted(member.filename):
                raise UserError(f"{path}: {member.filename!r} is larger than {readable_size(MAX_READ)}. {ADVICE}")
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, archive.read(member) if wanted(member.filename) else None


def _check(path, name, total, count):
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or (len(name) > 1 and name[1] == ":"):
        raise UserError(f"{path}: member {name!r} points outside of the archive. Make the archive again without it")
    if count >= MAX_MEMBERS:
        raise UserError(f"{path}: more than {MAX_MEMBERS:,} members. {ADVICE}")
    if count % 1000 == 0 or total > 1_000_000_000:
        require_memory(total, path, ADVICE)
