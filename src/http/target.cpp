#include "http/target.h"

#include <algorithm>

#include "base/ascii.h"
#include "base/utf8.h"

namespace hearth::http {
namespace {

Error malformed(std::string what) { return {Code::invalid_argument, "malformed request target: " + std::move(what)}; }

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

Result<std::string> decode(std::string_view segment) {
    std::string out;
    out.reserve(segment.size());
    for (std::size_t i = 0; i < segment.size(); ++i) {
        if (segment[i] != '%') {
            out.push_back(segment[i]);
            continue;
        }
        int const high = i + 1 < segment.size() ? hex_digit(segment[i + 1]) : -1;
        int const low = i + 2 < segment.size() ? hex_digit(segment[i + 2]) : -1;
        if (high < 0 || low < 0) return malformed("'%' must be followed by two hexadecimal digits");
        char const c = static_cast<char>(high * 16 + low);
        if (is_control(c)) return malformed("an encoded control character");
        out.push_back(c);
        i += 2;
    }
    if (!is_valid_utf8(out)) return malformed("the path is no UTF-8 once decoded");
    return out;
}

// Also between encoded slashes, for those who take a parameter for a path.
bool has_dot_segment(std::string_view segment) {
    for (;;) {
        std::string_view const part = segment.substr(0, segment.find('/'));
        if (part == "." || part == "..") return true;
        if (part.size() == segment.size()) return false;
        segment.remove_prefix(part.size() + 1);
    }
}

// `scheme://authority` off the front of an absolute form.
Result<std::string> take_authority(std::string_view& text) {
    std::size_t const scheme = text.find("://");
    if (scheme == std::string_view::npos) return malformed("it must start with '/'");
    std::string_view const name = text.substr(0, scheme);
    if (name != "http" && name != "https") return malformed("only http and https URLs are served here");
    text.remove_prefix(scheme + 3);
    std::string authority(text.substr(0, text.find_first_of("/?")));
    text.remove_prefix(authority.size());
    if (authority.empty()) return malformed("a URL without a host");
    if (authority.find('@') != std::string::npos) return malformed("a URL with credentials");
    return authority;
}

}  // namespace

Result<Target> parse_target(std::string_view text) {
    Target target;
    if (text == "*") {
        target.asterisk = true;
        target.path = "*";
        return target;
    }
    for (char const c : text) {
        if (c <= ' ' || c >= 0x7F) return malformed("only visible ASCII characters may stand there unencoded");
        if (c == '#') return malformed("a fragment ('#') is never sent to a server");
    }
    if (!text.starts_with('/')) {
        HEARTH_TRY(target.authority, take_authority(text));
    }
    std::size_t const mark = std::min(text.find('?'), text.size());
    target.query = text.substr(std::min(mark + 1, text.size()));
    text = text.substr(0, mark);
    while (!text.empty()) {
        text.remove_prefix(1);  // the '/' before each segment
        std::string_view const raw = text.substr(0, text.find('/'));
        text.remove_prefix(raw.size());
        if (raw.empty()) continue;
        HEARTH_TRY(std::string segment, decode(raw));
        if (has_dot_segment(segment)) return malformed("'.' and '..' segments are not resolved here");
        target.path.push_back('/');
        target.path.append(segment);
        target.segments.push_back(std::move(segment));
    }
    if (target.path.empty()) target.path = "/";
    return target;
}

}  // namespace hearth::http
