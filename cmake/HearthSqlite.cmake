# SQLite as a static library, from the pinned amalgamation: hearth::sqlite. Only src/store links it.
#
# The source is third_party.lock's, unpacked in the user's cache by `./dev
# setup`, or any folder with sqlite3.c and sqlite3.h named by
# HEARTH_SQLITE_SOURCE. The distribution's is older than 3.51.3, and those up to
# 3.51.2 can corrupt a database when its write-ahead log is reset.
set(default "$ENV{HEARTH_SQLITE_SOURCE}")
if(NOT default)
  set(cache "$ENV{XDG_CACHE_HOME}")
  if(NOT cache)
    set(cache "$ENV{HOME}/.cache")
  endif()
  set(default "${cache}/hearth/third_party/sqlite")
endif()
set(HEARTH_SQLITE_SOURCE "${default}" CACHE PATH "Folder with sqlite3.c and sqlite3.h")
if(NOT EXISTS ${HEARTH_SQLITE_SOURCE}/sqlite3.c)
  message(FATAL_ERROR "No sqlite3.c in '${HEARTH_SQLITE_SOURCE}'. Run `./dev setup` to fetch the pinned one, "
                      "or set HEARTH_SQLITE_SOURCE to a folder that has it.")
endif()
file(STRINGS ${HEARTH_SQLITE_SOURCE}/sqlite3.h version REGEX "^#define SQLITE_VERSION +\"")
string(REGEX REPLACE ".*\"(.*)\".*" "\\1" version "${version}")
if(version VERSION_LESS 3.51.3)
  message(FATAL_ERROR "SQLite in '${HEARTH_SQLITE_SOURCE}' is ${version}; at least 3.51.3 is needed: "
                      "older ones can corrupt a database with a write-ahead log.")
endif()
message(STATUS "SQLite ${version} in ${HEARTH_SQLITE_SOURCE}")

add_library(hearth_sqlite STATIC EXCLUDE_FROM_ALL ${HEARTH_SQLITE_SOURCE}/sqlite3.c)
target_include_directories(hearth_sqlite SYSTEM PUBLIC ${HEARTH_SQLITE_SOURCE})
set_target_properties(hearth_sqlite PROPERTIES EXPORT_COMPILE_COMMANDS OFF C_EXTENSIONS ON)
target_compile_options(hearth_sqlite PRIVATE -w -O2 -g0)
if(HEARTH_SANITIZE)
  # One file of 270000 lines: with all checks it takes minutes to compile.
  target_compile_options(hearth_sqlite PRIVATE -O1 -fno-sanitize=undefined)
endif()
target_compile_definitions(hearth_sqlite PRIVATE
  SQLITE_THREADSAFE=2              # a connection belongs to one thread at a time; store says so
  SQLITE_DQS=0                     # "x" is a column, never silently a string
  SQLITE_TRUSTED_SCHEMA=0          # a schema that somebody else wrote calls no function with effects
  SQLITE_OMIT_LOAD_EXTENSION       # no code from files
  SQLITE_OMIT_SHARED_CACHE SQLITE_OMIT_DEPRECATED
  SQLITE_MAX_ATTACHED=0            # one file is one database
  SQLITE_DEFAULT_FOREIGN_KEYS=1
  SQLITE_DEFAULT_MEMSTATUS=0       # no lock around every allocation
  SQLITE_DEFAULT_FILE_PERMISSIONS=0600
  SQLITE_LIKE_DOESNT_MATCH_BLOBS
  SQLITE_SECURE_DELETE             # what is deleted is overwritten
  SQLITE_TEMP_STORE=3              # sorting never leaves files behind
  SQLITE_ENABLE_FTS5
  HAVE_USLEEP=1 HAVE_FDATASYNC=1)
target_link_libraries(hearth_sqlite PUBLIC Threads::Threads PRIVATE m)
add_library(hearth::sqlite ALIAS hearth_sqlite)
