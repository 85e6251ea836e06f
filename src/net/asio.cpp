// The one compilation of Boost.Asio; see BOOST_ASIO_SEPARATE_COMPILATION in
// cmake/HearthThirdParty.cmake.
#include <boost/asio/impl/src.hpp>
