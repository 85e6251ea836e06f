// Untrusted bytes as a file of the prefix cache, plain and sealed, and once more
// with all checksums put right, so that what lies behind them is reached. What is
// accepted encodes to the same file.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "kvstore/segment_file.h"

namespace {

using namespace hearth::kvstore;

void require(bool holds, char const* what) {
    if (holds) return;
    std::fprintf(stderr, "broken property: %s\n", what);
    std::abort();
}

void read(SegmentFormat const& format, std::span<std::byte const> file, bool sealed) {
    if (file.size() < kHeaderBytes) return;
    auto const header = file.first(kHeaderBytes);
    auto const layout = format.read_header(header, file.size());
    if (!layout) return;
    std::vector<std::byte> head(file.begin() + kHeaderBytes,
                                file.begin() + static_cast<std::ptrdiff_t>(kHeaderBytes + layout->head_bytes));
    auto const found = format.read_head(header, *layout, head);
    if (!found) return;
    std::vector<std::byte> body(file.begin() + static_cast<std::ptrdiff_t>(kHeaderBytes + layout->head_bytes),
                                file.end());
    if (!format.read_body(*layout, head, body)) return;
    require(!sealed, "nobody seals without the key");
    auto const again = format.encode(*found, body);
    std::vector<std::byte> bytes = again.front;
    bytes.insert(bytes.end(), body.begin(), body.end());
    bytes.insert(bytes.end(), again.tag.begin(), again.tag.end());
    require(std::equal(bytes.begin(), bytes.end(), file.begin(), file.end()), "one encoding per segment");
}

// The same sizes, head and body, with everything else as the format wants it.
std::vector<std::byte> mended(SegmentFormat const& format, std::span<std::byte const> file) {
    std::vector<std::byte> out(file.begin(), file.end());
    if (out.size() < kHeaderBytes) return out;
    SegmentHead sample;
    sample.tokens = {1};
    auto const good = format.encode(sample, std::vector<std::byte>(1)).front;
    std::uint32_t head_bytes = 0;
    std::memcpy(&head_bytes, out.data() + 56, sizeof head_bytes);
    std::copy_n(good.begin(), 56, out.begin());  // all up to the sizes
    std::fill_n(out.begin() + 60, 4, std::byte{0});
    auto const header = std::span(out).first(kHeaderBytes);
    auto const sum = checksum({}, header.first(72));
    std::copy_n(sum.begin(), 8, out.begin() + 72);
    std::size_t const left = out.size() - kHeaderBytes;
    if (head_bytes < kTagBytes || left < head_bytes + kTagBytes) return out;
    auto const head = std::span(out).subspan(kHeaderBytes, head_bytes);
    auto const body = std::span(out).subspan(kHeaderBytes + head_bytes);
    auto const head_tag = checksum(header, head.first(head.size() - kTagBytes));
    std::copy(head_tag.begin(), head_tag.end(), head.end() - kTagBytes);
    auto const body_tag = checksum(head_tag, body.first(body.size() - kTagBytes));
    std::copy(body_tag.begin(), body_tag.end(), body.end() - kTagBytes);
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    static SegmentFormat const plain("fuzz", {});
    static SegmentFormat const sealed("fuzz", SealKey{});
    auto const file = std::as_bytes(std::span(data, size));
    read(plain, file, false);
    read(sealed, file, true);
    read(plain, mended(plain, file), false);
    return 0;
}
