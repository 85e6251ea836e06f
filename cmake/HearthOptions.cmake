# Compiler options shared by every Hearth target, and the sanitizer switch of
# the presets. Third-party code is compiled without the warnings.

set(HEARTH_SANITIZE "" CACHE STRING "Comma-separated -fsanitize= list, empty for none")
option(HEARTH_COVERAGE "Instrument for llvm-cov" OFF)
option(HEARTH_FUZZ "Build the libFuzzer targets" OFF)

add_library(hearth_warnings INTERFACE)
target_compile_options(hearth_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual -Wthread-safety -Werror)

# Debug information must not name the build folder, or ccache could not share
# objects between presets and checkouts.
add_compile_options(-ffile-prefix-map=${CMAKE_SOURCE_DIR}=. -fdebug-compilation-dir=.)
add_compile_options(-ffunction-sections -fdata-sections)
add_link_options(-Wl,--gc-sections)

if(HEARTH_SANITIZE)
  add_compile_options(-fsanitize=${HEARTH_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${HEARTH_SANITIZE})
endif()
if(HEARTH_COVERAGE)
  add_compile_options(-fprofile-instr-generate -fcoverage-mapping)
  add_link_options(-fprofile-instr-generate)
endif()
# Only what is ours guides the fuzzer: counting edges in the engine library would slow its tests.
if(HEARTH_FUZZ)
  target_compile_options(hearth_warnings INTERFACE -fsanitize=fuzzer-no-link)
endif()
