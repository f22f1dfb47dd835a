# tests/fuzz/fuzz_<name>.c: one libFuzzer target each, build-fuzz/fuzz/<name>. As tests: every committed
# input once, then a run of a few seconds from the seeds.
set(SG_FUZZ_SECONDS 5 CACHE STRING "Seconds each fuzz target runs as a test")
file(GLOB fuzz_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
enable_testing()
foreach(source ${fuzz_sources})
    get_filename_component(name ${source} NAME_WE)
    string(REPLACE "fuzz_" "" name ${name})
    add_executable(fuzz_${name} ${source})
    set_target_properties(fuzz_${name} PROPERTIES OUTPUT_NAME ${name}
                          RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
    foreach(floor base store sandbox media layers http server)
        target_include_directories(fuzz_${name} PRIVATE ${PROJECT_SOURCE_DIR}/src/${floor})
    endforeach()
    target_link_libraries(fuzz_${name} PRIVATE sg_server)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    file(GLOB inputs CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name}/*
         ${PROJECT_SOURCE_DIR}/tests/fuzz/regression/${name}/*)
    if(inputs)
        add_test(NAME fuzz.${name}.inputs COMMAND fuzz_${name} ${inputs})
    endif()
    set(seeds)
    foreach(folder corpus regression)
        if(IS_DIRECTORY ${PROJECT_SOURCE_DIR}/tests/fuzz/${folder}/${name})
            list(APPEND seeds ${PROJECT_SOURCE_DIR}/tests/fuzz/${folder}/${name})
        endif()
    endforeach()
    # The first folder takes new inputs; it must not be the committed one.
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/corpus/${name})
    add_test(NAME fuzz.${name}.run
             COMMAND fuzz_${name} -max_total_time=${SG_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=2048
                     -artifact_prefix=${CMAKE_BINARY_DIR}/crash-${name}- ${CMAKE_BINARY_DIR}/corpus/${name} ${seeds})
    foreach(test fuzz.${name}.inputs fuzz.${name}.run)
        if(TEST ${test})
            set_tests_properties(${test} PROPERTIES LABELS fuzz TIMEOUT 120)
        endif()
    endforeach()
endforeach()
