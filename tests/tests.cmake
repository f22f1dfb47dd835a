# Tests above the floors: loopback (the whole pipeline without a socket) and e2e (the real daemon, real
# clients). Unit tests are found by cmake/floors.cmake.
file(GLOB loopback_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/loopback/test_*.c)
file(GLOB loopback_support CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/loopback/*_support.c)
foreach(source ${loopback_tests})
    get_filename_component(name ${source} NAME_WE)
    string(REPLACE "test_" "" name ${name})
    add_executable(loopback_${name} ${source} ${loopback_support})
    target_include_directories(loopback_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/src/server)
    target_link_libraries(loopback_${name} PRIVATE sg_server PkgConfig::CMOCKA)
    add_test(NAME loopback.${name} COMMAND loopback_${name})
    set_tests_properties(loopback.${name} PROPERTIES LABELS loopback TIMEOUT 120
                         ENVIRONMENT "SG_BIN=${CMAKE_BINARY_DIR}/streamgate")
endforeach()

# SG_SLOW: how many times slower than release a sanitizer build may be. Deadlines in the tests stretch
# by it; bounds on memory hold for release only.
set(slow 1)
if(SG_SANITIZE STREQUAL "address")
    set(slow 4)
elseif(SG_SANITIZE STREQUAL "thread")
    set(slow 8)
endif()

find_package(Python3 REQUIRED COMPONENTS Interpreter)
# Alone: those that measure, or that load the machine so much that another's deadline would suffer.
set(alone browser connections guard media players single_flight transcode)
file(GLOB e2e_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/e2e/test_*.py)
if(TARGET streamgate)
    foreach(source ${e2e_tests})
        get_filename_component(name ${source} NAME_WE)
        string(REPLACE "test_" "" name ${name})
        # Minutes of browsers, over code that "browser", "dash" and "transcode" go through there too.
        if(SG_SANITIZE STREQUAL "thread" AND name STREQUAL "players")
            continue()
        endif()
        add_test(NAME e2e.${name} COMMAND ${Python3_EXECUTABLE} -B ${source})
        math(EXPR timeout "180 * ${slow} + 240")
        if(name STREQUAL "media" OR name STREQUAL "transcode" OR name STREQUAL "browser" OR name STREQUAL "players") # dozens of films, each decoded many times
            math(EXPR timeout "${timeout} + 900")
        endif()
        set_tests_properties(e2e.${name} PROPERTIES LABELS e2e TIMEOUT ${timeout}
                             ENVIRONMENT "SG_BIN=$<TARGET_FILE:streamgate>;SG_SLOW=${slow}")
        if(name IN_LIST alone)
            set_tests_properties(e2e.${name} PROPERTIES RUN_SERIAL TRUE)
        endif()
    endforeach()
endif()

# Of scripts/fault: drives the media processes without a daemon.
add_executable(fault_mutants ${PROJECT_SOURCE_DIR}/tests/fault/mutants.c)
target_link_libraries(fault_mutants PRIVATE sg_layers)
