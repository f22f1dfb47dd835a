# cmake --install: the program, its unit, account, folders, sample configuration and documents. With the
# prefix /usr everything lands where Debian looks for it. The prefix may be named as late as on the
# command line of the installation, so what mentions a path is written then.
set(SG_SYSTEMD_DIR lib/systemd/system CACHE STRING "Where units go, below the prefix")
install(TARGETS streamgate RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES config/streamgate.sysusers DESTINATION lib/sysusers.d RENAME streamgate.conf)
install(FILES config/streamgate.tmpfiles DESTINATION lib/tmpfiles.d RENAME streamgate.conf)
install(FILES config/streamgate.conf DESTINATION ${CMAKE_INSTALL_DATADIR}/streamgate)
install(FILES config/prometheus/scrape.yml config/prometheus/alerts.yml
        DESTINATION ${CMAKE_INSTALL_DATADIR}/streamgate/prometheus)
file(GLOB documents CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/*.md)
install(FILES README.md LICENSE ${documents} DESTINATION ${CMAKE_INSTALL_DOCDIR})
foreach(name PROJECT_SOURCE_DIR PROJECT_BINARY_DIR CMAKE_INSTALL_BINDIR CMAKE_INSTALL_DOCDIR SG_SYSTEMD_DIR)
    install(CODE "set(${name} [[${${name}}]])")
endforeach()
install(SCRIPT cmake/install_paths.cmake)
