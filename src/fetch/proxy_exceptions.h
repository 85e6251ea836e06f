// goes_past_proxy(): the machines that a proxy is not asked for, as NO_PROXY says.
//
// A list with commas or blanks in between. `*` is every machine; a name is itself and all below it,
// a dot in front means nothing; an address is itself, ADDRESS/BITS a network. A port behind it
// (NAME:PORT, [IPV6]:PORT) leaves other ports to the proxy. What is none of these is nobody.
//
// Names are not resolved: an address does not speak for a name that has it.
//
// Threads: pure function. Source: curl's manual, NO_PROXY; ports as Go and wget take them.
#pragma once

#include <string_view>

#include "fetch/url.h"

namespace hearth::fetch {

[[nodiscard]] bool goes_past_proxy(std::string_view exceptions, Url const& url);

}  // namespace hearth::fetch
