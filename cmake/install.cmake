# cmake --install: the program, its unit, account, folders, sample configuration and documents. With the
# prefix /usr everything lands where Debian looks for it.
set(SG_SYSTEMD_DIR lib/systemd/system CACHE STRING "Where units go, below the prefix")
install(TARGETS streamgate RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
file(READ ${PROJECT_SOURCE_DIR}/config/streamgate.service unit)
string(REPLACE "/usr/bin/streamgate" "${CMAKE_INSTALL_FULL_BINDIR}/streamgate" unit "${unit}")
string(REPLACE "/usr/share/doc/streamgate" "${CMAKE_INSTALL_FULL_DOCDIR}" unit "${unit}")
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/streamgate.service CONTENT "${unit}" @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/streamgate.service DESTINATION ${SG_SYSTEMD_DIR})
install(FILES config/streamgate.sysusers DESTINATION lib/sysusers.d RENAME streamgate.conf)
install(FILES config/streamgate.tmpfiles DESTINATION lib/tmpfiles.d RENAME streamgate.conf)
install(FILES config/streamgate.conf DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/streamgate)
install(FILES config/prometheus/scrape.yml config/prometheus/alerts.yml
        DESTINATION ${CMAKE_INSTALL_DATADIR}/streamgate/prometheus)
file(GLOB documents CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/*.md)
install(FILES README.md LICENSE ${documents} DESTINATION ${CMAKE_INSTALL_DOCDIR})
