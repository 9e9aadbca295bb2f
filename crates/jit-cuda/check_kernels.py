"""Compiles all kernels for cards that this machine need not have, and fails where one spills registers or uses local memory.

    python3 crates/jit-cuda/check_kernels.py [8.0 8.9 9.0a] [--verbose]

Wants NVIDIA's compiler, which runs anywhere: `pip install nvidia-cuda-nvrtc`. Nothing of it is needed to build or to use jit.
"""

import ctypes
import glob
import os
import pathlib
import re
import site
import sys
import sysconfig

HERE = pathlib.Path(__file__).resolve().parent
KERNELS = HERE / "kernels"


def source():
    """As `src/ops/source.rs` puts it together, from its list of files."""
    listed = (HERE / "src/ops/source.rs").read_text()
    text = ""
    for name in re.findall(r'^    "(\w+\.cuh?)",$', listed, re.MULTILINE):
        text += f'#line 1 "{name}"\n'
        for line in (KERNELS / name).read_text().splitlines():
            text += "\n" if line.startswith(("#include", "#pragma once")) else line + "\n"
    return text


def nvrtc():
    """The library, from a wheel or a toolkit."""
    places = {sysconfig.get_paths()["purelib"], *site.getsitepackages()}
    patterns = [p + "/nvidia/*/lib/libnvrtc.so.*" for p in places]
    patterns.append("/usr/local/cuda*/lib64/libnvrtc.so.*")
    found = [path for pattern in patterns for path in glob.glob(pattern) if "builtins" not in path]
    if not found:
        sys.exit("libnvrtc is not found: pip install nvidia-cuda-nvrtc")
    # It looks for its other half by name alone.
    for half in glob.glob(os.path.dirname(found[0]) + "/libnvrtc-builtins.so.*"):
        ctypes.CDLL(half, mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(found[0])


def text_of(lib, program, what):
    size = ctypes.c_size_t()
    getattr(lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(lib, f"nvrtcGet{what}")(program, buffer)
    return buffer.raw.rstrip(b"\0").decode(errors="replace")


def compile_for(lib, arch, text):
    """The compiler's log for compute capability `arch`, such as 9.0a."""
    program = ctypes.c_void_p()
    lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    options = [f"--gpu-architecture=sm_{arch.replace('.', '')}", "--std=c++17", "--ptxas-options=-v"]
    array = (ctypes.c_char_p * len(options))(*[o.encode() for o in options])
    failed = lib.nvrtcCompileProgram(program, len(options), array)
    log = text_of(lib, program, "ProgramLog")
    lib.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        sys.exit(f"{arch}: the kernels do not compile\n{log}")
    return log


def kernels_of(log):
    """(name, bytes of stack, spilled bytes, registers) of each kernel that a log tells of."""
    entry = r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers"
    for name, stack, stores, loads, registers in re.findall(entry, log, re.DOTALL):
        yield name, int(stack), int(stores) + int(loads), int(registers)


def main():
    archs = [a for a in sys.argv[1:] if not a.startswith("--")] or ["8.0", "8.9", "9.0a"]
    lib, text, bad = nvrtc(), source(), False
    expected = len(re.findall(r"^  extern \"C\" __global__|^extern \"C\" __global__", text, re.MULTILINE))
    for arch in archs:
        kernels = list(kernels_of(compile_for(lib, arch, text)))
        # Most names come from macros that export two or three, so that there are more than are written down.
        if len(kernels) < max(expected, 1):
            sys.exit(f"{arch}: the log tells of {len(kernels)} kernels, and {expected} are written down")
        for name, stack, spilled, registers in sorted(kernels):
            if stack or spilled:
                print(f"{arch}: {name} has {stack} bytes of stack, {spilled} spilled")
                bad = True
            elif "--verbose" in sys.argv:
                print(f"{arch}: {name}: {registers} registers")
        print(f"{arch}: {len(kernels)} kernels, at most {max(k[3] for k in kernels)} registers")
    sys.exit(bad)


main()
