"""The program that calls libespeak-ng: a process of its own, that `rnnlab.data.espeak` starts.

The library keeps numbers of its voices' flutter from one sound to the next. Each sound is made in a fork of a process
in which the library was loaded and has said nothing yet, so that it depends on nothing that was said before. The file
imports nothing but the standard library: a fork of it takes a millisecond.

A request is a line of JSON: [text, voice, rate, pitch, range]. The answer is a line of JSON, [samples, words] or
"what was wrong", and behind it the samples, 16 bits each. The first line, before any request: [version, voices],
likewise.
"""

import ctypes
import ctypes.util
import json
import os
import signal
import sys
from typing import Any, BinaryIO

# Of espeak-ng's speak_lib.h.
_SYNCHRONOUS, _PHONEME_EVENTS, _NO_EXIT = 2, 1, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8, _BY_CHARACTER = 1, 1
_WORD, _SENTENCE, _END, _PHONEME = 1, 2, 5, 7


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("number", ctypes.c_uint),
        ("place", ctypes.c_int),  # in the text, from 1 on
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


class _Voice(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("languages", ctypes.c_void_p), ("identifier", ctypes.c_char_p))


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


def load() -> Any:
    """Return the library, ready to speak."""
    library = ctypes.CDLL(ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1")
    library.espeak_Info.restype = ctypes.c_char_p
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    library.espeak_Synth.argtypes = (
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
        *(ctypes.c_void_p, ctypes.c_void_p),
    )
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _NO_EXIT)
    if rate != 22_050:
        raise OSError(f"espeak-ng has no data: its sample rate is {rate}")
    return library


def voices(library: Any) -> list[list[str]]:
    """Return language and file of each voice; a timbre is of the language 'variant'."""
    found = []
    for language in (None, b"variant"):
        wanted = None if language is None else ctypes.byref((ctypes.c_char_p * 8)(None, language))
        listed = library.espeak_ListVoices(wanted)
        index = 0
        while listed[index]:
            voice = listed[index].contents
            # Each language is a byte of priority and a name that ends in a zero byte.
            name = ctypes.string_at(voice.languages + 1).decode() if language is None else "variant"
            found.append([name, voice.identifier.decode()])
            index += 1
    return found


def speak(library: Any, text: str, voice: str, rate: int, pitch: int, spread: int) -> tuple[list[list[int]], bytes]:
    """Return place and length in the text, first and last sample of each word; and the samples."""
    pieces: list[bytes] = []
    events: list[tuple[int, int, int, int]] = []

    def take(wave: int | None, number: int, found: Any) -> int:
        if wave and number > 0:
            pieces.append(ctypes.string_at(wave, 2 * number))
        index = 0
        while found[index].type:
            event = found[index]
            events.append((event.type, event.place, event.length, event.sample))
            index += 1
        return 0

    callback = _Callback(take)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()):
        raise ValueError(f"espeak-ng has no voice {voice!r}")
    for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, spread)):
        library.espeak_SetParameter(parameter, value, 0)
    content = text.encode()
    if library.espeak_Synth(content, len(content) + 1, 0, _BY_CHARACTER, 0, _UTF8, None, None):
        raise ValueError("espeak-ng could not speak")
    return _words(events), b"".join(pieces)


def _words(events: list[tuple[int, int, int, int]]) -> list[list[int]]:
    """Return the words; one ends where the first event of another place is, the pause behind it or the next word."""
    words = []
    for index, (kind, place, length, start) in enumerate(events):
        if kind == _WORD and length > 0:
            later = (at for other, there, _, at in events[index + 1 :] if there != place and other != _SENTENCE)
            words.append([place - 1, length, start, next(later, events[-1][3])])
    return words


def _answer(library: Any, request: list[Any], output: BinaryIO) -> None:
    try:
        words, samples = speak(library, *request)
        output.write(json.dumps([len(samples) // 2, words]).encode() + b"\n" + samples)
    except ValueError as error:
        output.write(json.dumps(str(error)).encode() + b"\n")
    output.flush()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with its input
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # nobody waits for the answer any more
    output = sys.stdout.buffer
    try:
        library = load()
        first: Any = [library.espeak_Info(None).decode(), voices(library)]
        library.espeak_SetVoiceByName(b"en-us")  # a dictionary that is there already is not read again
    except OSError as error:
        first = str(error)
    output.write(json.dumps(first).encode() + b"\n")
    output.flush()
    for line in sys.stdin.buffer:
        child = os.fork()
        if not child:
            _answer(library, json.loads(line), output)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            output.write(json.dumps("espeak-ng broke down").encode() + b"\n")
            output.flush()


if __name__ == "__main__":
    main()
