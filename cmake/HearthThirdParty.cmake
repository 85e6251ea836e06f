# Libraries from the distribution. Sources that are fetched and pinned come
# from third_party.lock; see cmake/HearthLlama.cmake.
find_package(Threads REQUIRED)
if(BUILD_TESTING)
  find_package(GTest REQUIRED)
endif()

# Boost is used header-only (Asio, Beast).
add_library(hearth_boost INTERFACE)
target_include_directories(hearth_boost SYSTEM INTERFACE /usr/include)
target_compile_definitions(hearth_boost INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_BOOST_COROUTINE
  BOOST_ASIO_SEPARATE_COMPILATION)  # compiled once, in src/net/asio.cpp
target_link_libraries(hearth_boost INTERFACE Threads::Threads)
add_library(hearth::boost ALIAS hearth_boost)

# libstdc++ 12 has no <format>; fmt is used header-only, since Debian ships no
# static library and the binary should need nothing but libc. No fmt type
# appears in a header of ours.
add_library(hearth_fmt INTERFACE)
target_compile_definitions(hearth_fmt INTERFACE FMT_HEADER_ONLY)
add_library(hearth::fmt ALIAS hearth_fmt)

include(HearthLlama OPTIONAL)
include(HearthSqlite)

# Static, so that the binary needs nothing but libc.
find_path(SECCOMP_INCLUDE seccomp.h REQUIRED)
find_library(SECCOMP_STATIC libseccomp.a REQUIRED)
add_library(hearth_seccomp INTERFACE)
target_include_directories(hearth_seccomp SYSTEM INTERFACE ${SECCOMP_INCLUDE})
target_link_libraries(hearth_seccomp INTERFACE ${SECCOMP_STATIC})
add_library(hearth::seccomp ALIAS hearth_seccomp)

find_path(SODIUM_INCLUDE sodium.h REQUIRED)
find_library(SODIUM_STATIC libsodium.a REQUIRED)
add_library(hearth_sodium INTERFACE)
target_include_directories(hearth_sodium SYSTEM INTERFACE ${SODIUM_INCLUDE})
target_link_libraries(hearth_sodium INTERFACE ${SODIUM_STATIC} Threads::Threads)
add_library(hearth::sodium ALIAS hearth_sodium)

# Header-only: inlined where it is used.
find_path(XXHASH_INCLUDE xxhash.h REQUIRED)
add_library(hearth_xxhash INTERFACE)
target_include_directories(hearth_xxhash SYSTEM INTERFACE ${XXHASH_INCLUDE})
add_library(hearth::xxhash ALIAS hearth_xxhash)

# TLS and SHA-256 of downloads. Static, so that the binary needs nothing but libc.
find_path(OPENSSL_INCLUDE openssl/ssl.h REQUIRED)
find_library(SSL_STATIC libssl.a REQUIRED)
find_library(CRYPTO_STATIC libcrypto.a REQUIRED)
add_library(hearth_openssl INTERFACE)
target_include_directories(hearth_openssl SYSTEM INTERFACE ${OPENSSL_INCLUDE})
target_link_libraries(hearth_openssl INTERFACE ${SSL_STATIC} ${CRYPTO_STATIC} Threads::Threads ${CMAKE_DL_LIBS})
add_library(hearth::openssl ALIAS hearth_openssl)
