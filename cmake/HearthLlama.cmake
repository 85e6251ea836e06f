# llama.cpp and ggml as static libraries, straight from the pinned source tree.
#
#   hearth::llama_cpp   libllama, ggml and every CPU variant: link this
#   hearth::llama_chat  upstream's template engine (common/jinja)
#
# The source is third_party.lock's, unpacked in the user's cache by `./dev
# setup`, or any checkout named by HEARTH_LLAMA_SOURCE. Nothing is patched and
# nothing of it is copied here. We list the sources ourselves instead of calling
# upstream's CMake: that would set the build type for everybody, add its
# install rules and options, and could not do what follows.
#
# CPU variants. One binary must be fast on every x86-64 machine, so the kernels
# (ggml-cpu) are compiled once per instruction set level. They all define the
# same symbols, and their inline functions would be merged across variants by
# the linker, which could put an AVX-512 std::vector into the code of an old
# CPU. Hence each variant is linked alone into one relocatable object, its
# section groups dissolved, and every symbol but its registration function made
# local. src/llama/cpu_variants.cpp picks one at run time.

set(default "$ENV{HEARTH_LLAMA_SOURCE}")
if(NOT default)
  set(cache "$ENV{XDG_CACHE_HOME}")
  if(NOT cache)
    set(cache "$ENV{HOME}/.cache")
  endif()
  set(default "${cache}/hearth/third_party/llama.cpp")
endif()
set(HEARTH_LLAMA_SOURCE "${default}" CACHE PATH "Source tree of llama.cpp")
set(LLAMA "${HEARTH_LLAMA_SOURCE}")
if(NOT EXISTS ${LLAMA}/include/llama.h)
  message(FATAL_ERROR "No llama.cpp source at '${LLAMA}'. Run `./dev setup` to fetch the pinned one, "
                      "or set HEARTH_LLAMA_SOURCE to a checkout.")
endif()

# Their code: no warnings of ours, always optimised (GGML_ASSERT is independent
# of NDEBUG and stays), no debug information, so that objects are the same in
# every build folder and ccache shares them. C is compiled so that exceptions
# pass through: runtime.cpp throws from a callback.
#
# Sanitizers apply too, less two checks that idioms of theirs fail and that are
# harmless on the machines we build for. "function": tables of row functions have
# one pointer type for all formats, so that void(float const*, block_q4_0*, ..) is
# called as void(float const*, void*, ..). "alignment", in the kernels: blocks are
# two bytes aligned, and their words are read as they lie. (Options, not an
# ignore list: the compiler cache does not look into that.)
add_library(hearth_third_party INTERFACE)
target_compile_options(hearth_third_party INTERFACE -w -DNDEBUG -g0 $<$<COMPILE_LANGUAGE:C>:-fexceptions>)
if(HEARTH_SANITIZE)
  target_compile_options(hearth_third_party INTERFACE -O2 -fno-sanitize=function)
else()
  target_compile_options(hearth_third_party INTERFACE -O3)
endif()
target_compile_definitions(hearth_third_party INTERFACE _GNU_SOURCE _XOPEN_SOURCE=600)

function(hearth_third_party_library name kind)
  add_library(${name} ${kind} EXCLUDE_FROM_ALL ${ARGN})
  target_link_libraries(${name} PRIVATE hearth_third_party)
  target_compile_features(${name} PRIVATE c_std_11 cxx_std_17)
  set_target_properties(${name} PROPERTIES CXX_STANDARD 17 EXPORT_COMPILE_COMMANDS OFF)
endfunction()

# --- ggml: tensors, graphs, the backend registry (no kernels) ---

file(GLOB ggml_sources ${LLAMA}/ggml/src/*.c ${LLAMA}/ggml/src/*.cpp)
hearth_third_party_library(hearth_ggml STATIC ${ggml_sources})
target_include_directories(hearth_ggml SYSTEM PUBLIC ${LLAMA}/ggml/include PRIVATE ${LLAMA}/ggml/src)
target_compile_definitions(hearth_ggml PRIVATE GGML_SCHED_MAX_COPIES=4)
target_link_libraries(hearth_ggml PUBLIC Threads::Threads m ${CMAKE_DL_LIBS})

# The version headers that upstream generates: see cmake/llama/.
function(hearth_version_header prefix list_file user)
  file(STRINGS ${LLAMA}/${list_file} parts REGEX "^set\\(${prefix}_VERSION_(MAJOR|MINOR|PATCH) [0-9]+\\)")
  list(TRANSFORM parts REPLACE "[^0-9]" "")
  list(JOIN parts "." version)
  set_source_files_properties(${LLAMA}/${user} PROPERTIES
    INCLUDE_DIRECTORIES ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/llama
    COMPILE_DEFINITIONS "HEARTH_UPSTREAM_VERSION=\"${version}\"")
  set(HEARTH_${prefix}_VERSION ${version} PARENT_SCOPE)
endfunction()
hearth_version_header(GGML ggml/CMakeLists.txt ggml/src/ggml.c)
hearth_version_header(LLAMA CMakeLists.txt src/llama.cpp)
message(STATUS "llama.cpp ${HEARTH_LLAMA_VERSION}, ggml ${HEARTH_GGML_VERSION} in ${LLAMA}")

# --- libllama ---

file(GLOB llama_core ${LLAMA}/src/*.cpp)
# The 150 files of models/ are small and include the same headers: compiled
# sixteen at a time, as upstream does, they cost half. With -include instead of
# CMake's UNITY_BUILD, whose generated files lie in the build folder and would
# miss the compiler cache of every other.
file(GLOB llama_models ${LLAMA}/src/models/*.cpp)
set(llama_batches "")
set(in_batch 0)
foreach(file IN LISTS llama_models)
  math(EXPR position "${in_batch} % 16")
  math(EXPR in_batch "${in_batch} + 1")
  if(position EQUAL 0)
    set(first ${file})
    list(APPEND llama_batches ${first})
  else()
    set_property(SOURCE ${first} APPEND_STRING PROPERTY COMPILE_FLAGS " -include \"${file}\"")
  endif()
endforeach()
hearth_third_party_library(hearth_libllama STATIC ${llama_core} ${llama_batches})
target_include_directories(hearth_libllama SYSTEM PUBLIC ${LLAMA}/include PRIVATE ${LLAMA}/src)
target_link_libraries(hearth_libllama PUBLIC hearth_ggml)

# --- CPU variants ---

set(cpu ${LLAMA}/ggml/src/ggml-cpu)
file(GLOB cpu_sources ${cpu}/*.c ${cpu}/*.cpp ${cpu}/amx/*.cpp ${cpu}/tiled/*.cpp ${cpu}/llamafile/*.cpp)
# In the place of ggml-cpu.c, with a barrier of our own.
list(REMOVE_ITEM cpu_sources ${cpu}/ggml-cpu.c)
list(APPEND cpu_sources ${CMAKE_SOURCE_DIR}/src/llama/barrier/ggml_cpu_threads.c)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64")
  file(GLOB arch_sources ${cpu}/arch/x86/*.c ${cpu}/arch/x86/*.cpp)
  list(FILTER arch_sources EXCLUDE REGEX cpu-feats)
  # Name and features, worst first: the table of src/llama/cpu_variants.cpp.
  set(flags_sse42 -msse4.2)
  set(flags_avx2 ${flags_sse42} -mavx -mf16c -mfma -mavx2 -mbmi2)
  set(flags_avx2_vnni ${flags_avx2} -mavxvnni)
  set(flags_avx512 ${flags_avx2} -mavx512f -mavx512cd -mavx512vl -mavx512dq -mavx512bw)
  set(flags_avx512_vnni ${flags_avx512} -mavx512vnni)
  set(flags_avx512_bf16 ${flags_avx512_vnni} -mavx512bf16)
  set(flags_amx ${flags_avx512_bf16} -mamx-tile -mamx-int8)
  set(all_variants sse42 avx2 avx2_vnni avx512 avx512_vnni avx512_bf16 amx)
else()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm")
    file(GLOB arch_sources ${cpu}/arch/arm/*.c ${cpu}/arch/arm/*.cpp)
    set(flags_native -mcpu=native)
  else()
    set(arch_sources "")
    set(flags_native -DGGML_CPU_GENERIC)
  endif()
  list(FILTER arch_sources EXCLUDE REGEX cpu-feats)
  set(all_variants native)
endif()

# Everyday builds take the oldest variant, for its tests, and the best one of
# this machine; what ships takes them all.
function(hearth_default_variants out)
  if(CMAKE_BUILD_TYPE STREQUAL "Release" OR all_variants STREQUAL "native")
    set(${out} ${all_variants} PARENT_SCOPE)
    return()
  endif()
  file(READ /proc/cpuinfo cpuinfo)
  string(REGEX MATCH "flags[^\n]*" have "${cpuinfo}")
  set(best sse42)
  foreach(pair "avx2=avx2" "avx2_vnni=avx_vnni" "avx512=avx512bw" "avx512_vnni=avx512_vnni" "avx512_bf16=avx512_bf16"
               "amx=amx_int8")
    string(REPLACE "=" ";" pair ${pair})
    list(GET pair 0 name)
    list(GET pair 1 feature)
    if("${have} " MATCHES " ${feature} ")
      set(best ${name})
    endif()
  endforeach()
  set(list sse42 ${best})
  list(REMOVE_DUPLICATES list)
  set(${out} ${list} PARENT_SCOPE)
endfunction()
hearth_default_variants(default_variants)
set(HEARTH_CPU_LEVELS "" CACHE STRING "CPU variants to compile in; empty: this build type's default")
if(HEARTH_CPU_LEVELS)
  set(variants ${HEARTH_CPU_LEVELS})
else()
  set(variants ${default_variants})
endif()
message(STATUS "CPU variants: ${variants}")

find_program(HEARTH_LD NAMES ld.lld-19 ld.lld ld.bfd REQUIRED)
find_program(HEARTH_OBJCOPY NAMES llvm-objcopy-19 llvm-objcopy objcopy REQUIRED)

add_library(hearth_ggml_cpu INTERFACE)
set(variant_objects "")
foreach(variant IN LISTS variants)
  if(NOT variant IN_LIST all_variants)
    message(FATAL_ERROR "HEARTH_CPU_LEVELS: '${variant}' is none of ${all_variants}")
  endif()
  set(target hearth_ggml_cpu_${variant})
  hearth_third_party_library(${target} OBJECT ${cpu_sources} ${arch_sources})
  target_include_directories(${target} SYSTEM PRIVATE ${LLAMA}/ggml/include ${LLAMA}/ggml/src ${cpu})
  target_compile_definitions(${target} PRIVATE GGML_USE_CPU_REPACK GGML_USE_LLAMAFILE)
  target_compile_options(${target} PRIVATE ${flags_${variant}})
  if(HEARTH_SANITIZE)
    target_compile_options(${target} PRIVATE -fno-sanitize=alignment)
  endif()
  # Our own kernels, with the variant's instructions.
  add_library(hearth_kernels_${variant} OBJECT
    ${CMAKE_SOURCE_DIR}/src/llama/barrier/barrier.cpp
    ${CMAKE_SOURCE_DIR}/src/llama/kernels/attention.cpp
    ${CMAKE_SOURCE_DIR}/src/llama/kernels/attention_plan.cpp
    ${CMAKE_SOURCE_DIR}/src/llama/kernels/gelu.cpp
    ${CMAKE_SOURCE_DIR}/src/llama/kernels/kernels.cpp
    ${CMAKE_SOURCE_DIR}/src/llama/kernels/matmul_blocks.cpp
    ${CMAKE_SOURCE_DIR}/src/llama/kernels/matmul_columns.cpp
    ${CMAKE_SOURCE_DIR}/src/llama/kernels/matmul_floats.cpp)
  target_include_directories(hearth_kernels_${variant} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_include_directories(hearth_kernels_${variant} SYSTEM PRIVATE ${LLAMA}/ggml/include ${LLAMA}/ggml/src ${cpu})
  target_compile_options(hearth_kernels_${variant} PRIVATE ${flags_${variant}} -O3
    -Wno-psabi)  # wide vectors are passed by inlined functions only
  target_link_libraries(hearth_kernels_${variant} PRIVATE hearth_warnings)

  set(object ${CMAKE_BINARY_DIR}/llama_generated/ggml_cpu_${variant}.o)
  set(registration hearth_cpu_reg_${variant})
  add_custom_command(OUTPUT ${object}
    COMMAND ${HEARTH_LD} -r --force-group-allocation -o ${object}.tmp $<TARGET_OBJECTS:${target}>
            $<TARGET_OBJECTS:hearth_kernels_${variant}>
    COMMAND ${HEARTH_OBJCOPY} --redefine-sym hearth_cpu_reg=${registration} ${object}.tmp
    COMMAND ${HEARTH_OBJCOPY} --keep-global-symbol=${registration} --keep-global-symbol=___asan_globals_registered
            ${object}.tmp ${object}
    COMMAND ${CMAKE_COMMAND} -E rm ${object}.tmp
    DEPENDS ${target} $<TARGET_OBJECTS:${target}> $<TARGET_OBJECTS:hearth_kernels_${variant}> COMMAND_EXPAND_LISTS VERBATIM
    COMMENT "Closing the CPU variant ${variant}")
  list(APPEND variant_objects ${object})
  string(TOUPPER ${variant} upper)
  target_compile_definitions(hearth_ggml_cpu INTERFACE HEARTH_CPU_${upper})
endforeach()
add_library(hearth_ggml_cpu_objects STATIC EXCLUDE_FROM_ALL ${variant_objects})
set_target_properties(hearth_ggml_cpu_objects PROPERTIES LINKER_LANGUAGE CXX)
set_source_files_properties(${variant_objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
target_link_libraries(hearth_ggml_cpu INTERFACE hearth_ggml_cpu_objects hearth_ggml)

# --- chat templates ---

file(GLOB jinja_sources ${LLAMA}/common/jinja/*.cpp)
hearth_third_party_library(hearth_llama_chat STATIC ${jinja_sources} ${LLAMA}/common/json.cpp ${LLAMA}/common/unicode.cpp)
target_include_directories(hearth_llama_chat SYSTEM PUBLIC ${LLAMA}/common PRIVATE ${LLAMA}/vendor)
target_link_libraries(hearth_llama_chat PUBLIC hearth_libllama)

# --- what the module links ---

add_library(hearth_llama_cpp INTERFACE)
target_link_libraries(hearth_llama_cpp INTERFACE hearth_libllama hearth_ggml_cpu hearth_ggml)
# The module replaces the allocator of ggml's buffer type and reads the memory
# breakdown: internal headers.
target_include_directories(hearth_llama_cpp SYSTEM INTERFACE ${LLAMA}/ggml/src ${LLAMA}/src)
add_library(hearth::llama_cpp ALIAS hearth_llama_cpp)
add_library(hearth::llama_chat ALIAS hearth_llama_chat)
