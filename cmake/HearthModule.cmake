# hearth_module(<name> LAYER <n> HEADERS ... SOURCES ... TESTS ...
#               PUBLIC_DEPS ... PRIVATE_DEPS ... EXTERNAL ... PRIVATE_EXTERNAL ... TEST_DEPS ...)
#
# One folder under src/ is one module is one target is one namespace.
# PUBLIC_DEPS may appear in this module's headers, PRIVATE_DEPS only in its
# sources and tests, TEST_DEPS only in its tests (any lower layer). EXTERNAL is
# a third-party target that users of the module need too, PRIVATE_EXTERNAL one
# that stops here. A header not listed in HEADERS is private to the folder.
add_custom_target(unit_tests)  # the test programs of all modules

function(hearth_module name)
  cmake_parse_arguments(M "" "LAYER"
    "HEADERS;SOURCES;TESTS;PUBLIC_DEPS;PRIVATE_DEPS;TEST_DEPS;EXTERNAL;PRIVATE_EXTERNAL" ${ARGN})
  if(M_UNPARSED_ARGUMENTS OR NOT DEFINED M_LAYER)
    message(FATAL_ERROR "hearth_module(${name}): bad arguments '${M_UNPARSED_ARGUMENTS}'")
  endif()
  set(target hearth_${name})
  add_library(${target} STATIC ${M_SOURCES})
  add_library(hearth::${name} ALIAS ${target})
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS ${CMAKE_SOURCE_DIR}/src FILES ${M_HEADERS})
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX VERIFY_INTERFACE_HEADER_SETS ON)
  list(TRANSFORM M_PUBLIC_DEPS PREPEND hearth:: OUTPUT_VARIABLE pub)
  list(TRANSFORM M_PRIVATE_DEPS PREPEND hearth:: OUTPUT_VARIABLE priv)
  list(TRANSFORM M_TEST_DEPS PREPEND hearth:: OUTPUT_VARIABLE testdeps)
  target_link_libraries(${target} PUBLIC ${pub} ${M_EXTERNAL} PRIVATE ${priv} ${M_PRIVATE_EXTERNAL} hearth_warnings)
  if(M_TESTS AND BUILD_TESTING)
    # Not part of `all`: `./dev test` builds those that it runs.
    add_executable(${target}_tests EXCLUDE_FROM_ALL ${M_TESTS})
    add_dependencies(unit_tests ${target}_tests)
    target_link_libraries(${target}_tests PRIVATE
      hearth::${name} ${priv} ${testdeps} ${M_PRIVATE_EXTERNAL} GTest::gtest_main hearth_warnings)
    target_include_directories(${target}_tests PRIVATE ${CMAKE_SOURCE_DIR}/tests)  # testing/: shared fakes
    add_test(NAME ${name} COMMAND ${target}_tests)
    set_tests_properties(${name} PROPERTIES LABELS unit ENVIRONMENT "HEARTH_SOURCE_DIR=${CMAKE_SOURCE_DIR}")
  endif()
  set_property(GLOBAL APPEND PROPERTY HEARTH_MODULES
    "${name}|${M_LAYER}|${M_PUBLIC_DEPS}|${M_PRIVATE_DEPS}|${M_HEADERS}|${M_TEST_DEPS}")
endfunction()

# Writes modules.txt and registers the layering test. Call it last.
function(hearth_finish_modules)
  get_property(raw GLOBAL PROPERTY HEARTH_MODULES)
  file(WRITE ${CMAKE_BINARY_DIR}/modules.txt "${raw}\n")
  if(BUILD_TESTING)
    add_test(NAME layering COMMAND python3 ${CMAKE_SOURCE_DIR}/tools/check_layers.py
             ${CMAKE_BINARY_DIR}/modules.txt ${CMAKE_SOURCE_DIR}/src)
    set_tests_properties(layering PROPERTIES LABELS lint)
  endif()
endfunction()
