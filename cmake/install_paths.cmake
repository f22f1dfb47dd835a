# Part of cmake --install: the unit, with the paths of this installation in it, and the configuration.
set(etc /etc)
if(NOT CMAKE_INSTALL_PREFIX MATCHES "^/(usr(/local)?/?)?$")
    set(etc ${CMAKE_INSTALL_PREFIX}/etc)
endif()

file(READ ${PROJECT_SOURCE_DIR}/config/streamgate.service unit)
string(REPLACE /usr/bin/streamgate ${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/streamgate unit "${unit}")
string(REPLACE /usr/share/doc/streamgate ${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DOCDIR} unit "${unit}")
string(REPLACE /etc/streamgate ${etc}/streamgate unit "${unit}")
file(WRITE ${PROJECT_BINARY_DIR}/streamgate.service "${unit}")
file(INSTALL ${PROJECT_BINARY_DIR}/streamgate.service
     DESTINATION ${CMAKE_INSTALL_PREFIX}/${SG_SYSTEMD_DIR})

# What an operator has written stays; the sample with every default is in share/streamgate.
if(NOT EXISTS $ENV{DESTDIR}${etc}/streamgate/streamgate.conf)
    file(INSTALL ${PROJECT_SOURCE_DIR}/config/streamgate.conf DESTINATION ${etc}/streamgate)
endif()
