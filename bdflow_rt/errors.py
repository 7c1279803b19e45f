"""Every exception a user can meet, one class per fault, all under `BdflowError`.

A message says what was wrong (with the value), what is allowed, and what to do next. `exit_code` is what the
command line returns: 2 arguments, 3 input, 4 output, 5 packet, 6 model, 7 backend, 8 training.

What a library says goes into a message through `shorten`: some write thousands of characters into one line.
"""

_HEAD, _TAIL = 300, 140


def shorten(said: object) -> str:
    """A library's message in one line of at most 450 characters, its middle left out; the class where it says nothing.

    Args:
        said: the exception or its text. Both ends stay: C++ libraries begin with the place and end with the reason.
    """
    text = " ".join(str(said).split())
    if not text:
        return type(said).__name__ if isinstance(said, BaseException) else "no reason is given"
    if len(text) <= _HEAD + _TAIL:
        return text
    return f"{text[:_HEAD].rstrip()} [...] {text[-_TAIL:].lstrip()}"


def describe(value: object) -> str:
    """A value of any kind in a message: at most 60 characters of it, and its type where Python cannot print it."""
    try:
        return f"{value!r:.60}"
    except Exception:  # a whole number of 4,301 digits for one
        return f"a {type(value).__name__} that cannot be shown"


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 bit", "2 bits"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


class BdflowError(Exception):
    """Root of everything BDFlow RT raises on purpose."""

    exit_code = 1


class ArgumentError(BdflowError):
    """An option or argument has a value that is not allowed."""

    exit_code = 2


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Check that an argument is a whole number of that range.

    Raises:
        ArgumentError: it is something else; `name` starts the message.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ArgumentError(f"{name} is {describe(value)}; it must be a whole number from {low} to {high}.")


def check_type(name: str, value: object, kinds: type | tuple[type, ...], what: str) -> None:
    """Check that an argument has one of some types.

    Raises:
        ArgumentError: it has another one; `name` starts the message, `what` says what is allowed.
    """
    if not isinstance(value, kinds):
        raise ArgumentError(f"{name} is a {type(value).__name__}; it must be {what}.")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that an argument is one of some words.

    Raises:
        ArgumentError: it is something else; `name` starts the message.
    """
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"{name} is {describe(value)}; it must be one of {', '.join(choices)}.")


class ShapeError(ArgumentError):
    """An array has the wrong number of dimensions or a size that does not fit."""


class OutsideProfileError(ShapeError):
    """A picture or batch has a size that an engine was not built for."""


class BusyError(ArgumentError):
    """All workers of a `Rescaler` are busy and its queue is full, or an engine is running in another thread."""


class DTypeError(ArgumentError):
    """An array has a dtype that is not accepted; nothing is ever cast silently."""


class ArrayTooLargeError(ArgumentError):
    """An array has more elements than a kernel can count."""


class LayoutError(ArgumentError):
    """An array's elements do not lie in memory as a kernel needs them: strides or byte order."""


class OverlapError(ArgumentError):
    """Input and output of a kernel share memory."""


class DeviceMismatchError(ArgumentError):
    """Arrays or the stream of one call are on different GPUs, or one is in the host's memory."""


class ClosedError(ArgumentError):
    """A `Rescaler` or an engine was used after `close()`."""


class InputError(BdflowError):
    """An input file is missing, unreadable, or not accepted."""

    exit_code = 3


class MissingFileError(InputError):
    """The input does not exist or is not a regular file."""


class UnreadableFileError(InputError):
    """The input exists and cannot be opened: permissions or a device error."""


class CorruptImageError(InputError):
    """The picture is truncated or its data does not decode."""


class UnsupportedImageError(InputError):
    """The picture is sound, but of a kind that would be altered silently: animated, CMYK, 16-bit, transparent."""


class ImageTooLargeError(InputError):
    """The picture has more pixels than `max_pixels`."""


class CorruptVideoError(InputError):
    """The video is damaged or cut off before its first frame, or has no frames."""


class UnsupportedVideoError(InputError):
    """The video is sound, but of a kind that would be altered silently: interlaced, HDR, frames of several sizes."""


class EmptyImageError(InputError):
    """The picture or array has no pixels."""


class OutputError(BdflowError):
    """A file could not be written; an older file of that name is untouched."""

    exit_code = 4


class OutputExistsAsInputError(OutputError):
    """The output path names the input file."""


class OutputExistsError(OutputError):
    """The output exists, and nobody said that it may be replaced."""


class UnwritableOutputError(OutputError):
    """The output folder is missing, read-only, or the name is a folder."""


class DiskFullError(OutputError):
    """The disk filled up in mid-write; the partial file was removed."""


class ResumeError(OutputError):
    """An interrupted video cannot be continued: it was begun from another source or with other settings."""


class ModelExistsError(OutputError):
    """A model was to be written over another one, which packets may need."""


class PacketError(BdflowError):
    """A packet is missing, damaged or edited, and cannot be restored."""

    exit_code = 5


class NotAPacketError(PacketError):
    """An ordinary picture: it carries no boundary map and no header."""


class CorruptPacketError(PacketError):
    """The packet's chunk, header or boundary map is damaged: wrong CRC, length, or trailing bytes."""


class PacketVersionError(PacketError):
    """The packet was written in a format version this release does not know."""


class PacketMismatchError(PacketError):
    """The packet contradicts itself or the model: scale, size, or bits of the boundary."""


class EditedPictureError(PacketError):
    """The LR pixels or the colour profile are not those the packet was made with."""


class ModelError(BdflowError):
    """A model cannot be used."""

    exit_code = 6


class UnknownModelError(ModelError):
    """No model of that name, version or hash is in the zoo."""


class ModelConfigError(ModelError):
    """A model's configuration is impossible."""


class DirectionError(ModelError):
    """A network does not do what was asked of it."""


class ExportError(ModelError):
    """A network uses a function that has no graph."""


class CorruptModelError(ModelError):
    """A model folder is incomplete, or its card cannot be read."""


class ModelVersionError(ModelError):
    """A model's card has a format or an architecture that this release does not know."""


class ModelConflictError(ModelError):
    """Several folders hold different models of one name and version."""


class WeightsHashError(ModelError):
    """The weights are not the ones the card or the packet names."""


class BackendError(BdflowError):
    """An engine failed."""

    exit_code = 7


class BackendUnavailableError(BackendError):
    """The backend asked for is not installed or cannot run here."""


class ForkedProcessError(BackendUnavailableError):
    """A forked process cannot use a backend, because its parent has: the backend's threads are missing."""


class CudaUnavailableError(BackendUnavailableError):
    """There is no NVIDIA GPU, no driver, or no CuPy."""


class CompilerMissingError(BackendUnavailableError):
    """NVRTC or CUDA's headers are not installed, so no kernel can be compiled."""


class UnsupportedArchitectureError(BackendUnavailableError):
    """The installed compiler or TensorRT does not know the GPU's architecture, or no longer does."""


class BackendVersionError(BackendUnavailableError):
    """The backend is installed in a version that is too old."""


class EngineBuildError(BackendError):
    """TensorRT refused a network, or failed to build an engine from it."""


class EngineParseError(EngineBuildError):
    """TensorRT does not take a node of the graph."""


class KernelCompileError(BackendError):
    """A CUDA kernel does not compile."""


class PrecisionError(BackendError):
    """A graph or network does not compute in the precision it must, or could not without overflow."""


class EngineMissingError(BackendUnavailableError):
    """No engine in the cache was built for this model on this machine."""


class EngineMismatchError(BackendError):
    """An engine was built for another GPU, library version, flavour or model."""


class EngineLoadError(BackendError):
    """TensorRT refuses an engine whose bytes are those that were built."""


class CacheTrustError(BackendError):
    """The cache belongs to somebody else, or others can write to it: what is in it is code that would run."""


class VerificationError(BackendError):
    """A backend does not compute what the model computes in the reference, or none could be compared."""


class NonFiniteOutputError(BackendError):
    """An engine returned NaN or infinity."""


class OutOfMemoryError(BackendError):
    """Not even the smallest exact tile fits the memory limit."""


class TrainingError(BdflowError):
    """Training cannot go on."""

    exit_code = 8


class TrainingConfigError(TrainingError):
    """The training configuration cannot be read or is impossible."""


class TrainingDataError(TrainingError):
    """The training data is missing, unreadable, or too small for the crop."""


class CheckpointError(TrainingError):
    """A checkpoint is missing, damaged, or from another configuration."""


class DivergedError(TrainingError):
    """Training diverged again and again after going back to its last good checkpoint."""


class StalledError(BdflowError):
    """A stage of a stream has made no progress for as long as was allowed."""

    exit_code = 9
