// Untrusted bytes as the body of a worker frame, and as a stream of frames.
// What decodes must encode to the same bytes; how a stream is cut must not
// change what it says.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "serving/protocol.h"

namespace {

using namespace hearth::serving;

void require(bool holds, char const* what) {
    if (holds) return;
    std::fprintf(stderr, "broken property: %s\n", what);
    std::abort();
}

struct Reading {
    std::vector<std::string> frames;  // encoded again
    bool failed = false;
    bool operator==(Reading const&) const = default;
};

Reading read(std::string_view stream, std::size_t portion) {
    Reading out;
    FrameReader reader(1U << 20);
    for (std::size_t at = 0; at < stream.size(); at += portion) {
        reader.push(stream.substr(at, portion));
        for (;;) {
            auto frame = reader.next();
            if (!frame) {
                out.failed = true;
                return out;
            }
            if (!*frame) break;
            auto bytes = encode(**frame);
            require(bytes.has_value(), "a decoded frame can be encoded");
            out.frames.push_back(*std::move(bytes));
        }
    }
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    std::string_view const input(reinterpret_cast<char const*>(data), size);
    if (auto const frame = decode(input)) {
        auto const bytes = encode(*frame);
        require(bytes.has_value(), "a decoded frame can be encoded");
        require(std::string_view(*bytes).substr(4) == input, "one encoding per frame");
        if (auto const* step = std::get_if<StepFrame>(&*frame)) {
            StepEncoder encoder;
            for (auto const& entry : step->entries) encoder.add(entry.id, entry.event);
            require(encoder.finish() == *bytes, "both encoders agree");
        }
    }
    auto const whole = read(input, size == 0 ? 1 : size);
    require(read(input, 1 + size / 7) == whole, "portions do not matter");
    require(read(input, 3) == whole, "small portions do not matter");
    return 0;
}
