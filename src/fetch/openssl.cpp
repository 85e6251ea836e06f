// The one compilation of Asio's TLS; see BOOST_ASIO_SEPARATE_COMPILATION in
// cmake/HearthThirdParty.cmake.
#include <boost/asio/ssl/impl/src.hpp>
