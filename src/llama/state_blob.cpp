#include "llama/state_blob.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cstring>

#include "base/assert.h"

namespace hearth::llama {

namespace {

constexpr std::uint64_t kMagic = 0x3151455348545248;  // "HRTHSEQ1"

struct Fields {
    std::uint64_t magic = kMagic;
    std::uint64_t fingerprint = 0;
    std::uint32_t positions = 0;
    std::uint32_t begin = 0;
    std::uint64_t payload_bytes = 0;
    std::uint64_t checksum = 0;
};
static_assert(sizeof(Fields) == kStateHeaderBytes && std::has_unique_object_representations_v<Fields>);

// Four independent lanes, so that it runs at memory speed. Guards against
// accidents, not against an author.
std::uint64_t hash(std::span<std::byte const> data, std::uint64_t seed) {
    constexpr std::uint64_t kMultiplier = 0x9E3779B97F4A7C15;
    std::array<std::uint64_t, 4> lanes{seed, seed ^ 1, seed ^ 2, seed ^ 3};
    std::size_t const whole = data.size() / 32 * 32;
    for (std::size_t at = 0; at < whole; at += 32) {
        std::array<std::uint64_t, 4> words;
        std::memcpy(words.data(), data.data() + at, 32);
        for (std::size_t lane = 0; lane < 4; ++lane)
            lanes[lane] = std::rotl((lanes[lane] ^ words[lane]) * kMultiplier, 29);
    }
    std::array<std::uint64_t, 4> tail{};
    if (whole < data.size()) std::memcpy(tail.data(), data.data() + whole, data.size() - whole);
    std::uint64_t sum = data.size();
    for (std::size_t lane = 0; lane < 4; ++lane)
        sum = std::rotl((sum ^ lanes[lane] ^ tail[lane]) * kMultiplier, 31) + lane;
    return sum;
}

std::uint64_t checksum(Fields const& fields, std::span<std::byte const> payload) {
    Fields plain = fields;
    plain.checksum = 0;
    return hash(payload, hash(std::as_bytes(std::span(&plain, 1)), 0));
}

}  // namespace

std::uint64_t state_fingerprint(std::string_view identity) { return hash(std::as_bytes(std::span(identity)), kMagic); }

void seal_state(std::span<std::byte> blob, StateHeader const& header) {
    HEARTH_ASSERT(blob.size() >= kStateHeaderBytes, "the caller left room for the header");
    Fields fields;
    fields.fingerprint = header.fingerprint;
    fields.positions = header.positions;
    fields.begin = header.begin;
    fields.payload_bytes = blob.size() - kStateHeaderBytes;
    fields.checksum = checksum(fields, blob.subspan(kStateHeaderBytes));
    std::memcpy(blob.data(), &fields, sizeof(fields));
}

Result<StateHeader> open_state(std::span<std::byte const> blob, std::uint64_t fingerprint) {
    if (blob.size() < kStateHeaderBytes)
        return Error(Code::corrupt, fmt::format("a saved sequence has at least {} bytes, this one {}",
                                                kStateHeaderBytes, blob.size()));
    Fields fields;
    std::memcpy(&fields, blob.data(), sizeof(fields));
    auto const payload = blob.subspan(kStateHeaderBytes);
    if (fields.magic != kMagic) return Error(Code::corrupt, "this is no saved sequence");
    if (fields.payload_bytes != payload.size())
        return Error(Code::corrupt,
                     fmt::format("the saved sequence is cut: {} bytes of {}", payload.size(), fields.payload_bytes));
    if (fields.fingerprint != fingerprint)
        return Error(Code::corrupt, "the sequence was saved by another model, build or set of options");
    if (fields.checksum != checksum(fields, payload)) return Error(Code::corrupt, "the saved sequence is damaged");
    return StateHeader{fields.fingerprint, fields.positions, fields.begin};
}

}  // namespace hearth::llama
