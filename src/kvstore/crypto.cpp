#include "kvstore/crypto.h"

#define XXH_INLINE_ALL
#include <sodium.h>
#include <xxhash.h>

#include <cstring>

#include "base/assert.h"

namespace hearth::kvstore {
namespace {

static_assert(crypto_aead_xchacha20poly1305_ietf_KEYBYTES == std::tuple_size_v<SealKey>);
static_assert(crypto_aead_xchacha20poly1305_ietf_NPUBBYTES == kNonceBytes);
static_assert(crypto_aead_xchacha20poly1305_ietf_ABYTES == kTagBytes);

// Picks the implementations for this processor, once.
void start() {
    static bool const ready = ::sodium_init() >= 0;
    HEARTH_ASSERT(ready, "the system has random numbers");
}

unsigned char const* bytes(std::span<std::byte const> data) {
    return reinterpret_cast<unsigned char const*>(data.data());
}

Nonce section_nonce(Nonce nonce, std::uint8_t section) {
    nonce.back() ^= std::byte{section};
    return nonce;
}

}  // namespace

Digest digest(std::span<std::byte const> secret, std::span<std::span<std::byte const> const> parts) {
    start();
    crypto_generichash_state state;
    ::crypto_generichash_init(&state, secret.empty() ? nullptr : bytes(secret), secret.size(), sizeof(Digest));
    for (auto const part : parts) {
        std::uint64_t const size = part.size();
        ::crypto_generichash_update(&state, reinterpret_cast<unsigned char const*>(&size), sizeof size);
        ::crypto_generichash_update(&state, bytes(part), part.size());
    }
    Digest out;
    ::crypto_generichash_final(&state, reinterpret_cast<unsigned char*>(out.data()), out.size());
    return out;
}

Space space_of(std::string_view tenant, std::string_view salt, std::string_view adapters) {
    std::array const parts{std::as_bytes(std::span(tenant)), std::as_bytes(std::span(salt)),
                           std::as_bytes(std::span(adapters))};
    return {digest({}, std::span(parts).first(adapters.empty() ? 2 : 3)), digest({}, std::span(parts).first(1))};
}

std::string hex(std::span<std::byte const> data) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out;
    for (auto const byte : data) {
        out.push_back(kDigits[std::to_integer<std::size_t>(byte >> 4)]);
        out.push_back(kDigits[std::to_integer<std::size_t>(byte & std::byte{15})]);
    }
    return out;
}

Nonce random_nonce() {
    start();
    Nonce nonce;
    ::randombytes_buf(nonce.data(), nonce.size());
    return nonce;
}

Tag checksum(std::span<std::byte const> context, std::span<std::byte const> data) {
    auto const seed = XXH3_64bits(context.data(), context.size());
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(data.data(), data.size(), seed));
    Tag tag;
    static_assert(sizeof canonical == sizeof tag);
    std::memcpy(tag.data(), &canonical, sizeof tag);
    return tag;
}

std::vector<std::byte> seal(SealKey const& key, Nonce nonce, std::uint8_t section, std::span<std::byte const> context,
                            std::span<std::byte const> data) {
    start();
    std::vector<std::byte> out(data.size() + kTagBytes);
    auto const own = section_nonce(nonce, section);
    ::crypto_aead_xchacha20poly1305_ietf_encrypt(reinterpret_cast<unsigned char*>(out.data()), nullptr, bytes(data),
                                                 data.size(), bytes(context), context.size(), nullptr, bytes(own),
                                                 bytes(key));
    return out;
}

bool unseal(SealKey const& key, Nonce nonce, std::uint8_t section, std::span<std::byte const> context,
            std::span<std::byte> sealed) {
    start();
    if (sealed.size() < kTagBytes) return false;
    auto const own = section_nonce(nonce, section);
    return ::crypto_aead_xchacha20poly1305_ietf_decrypt(reinterpret_cast<unsigned char*>(sealed.data()), nullptr,
                                                        nullptr, bytes(sealed), sealed.size(), bytes(context),
                                                        context.size(), bytes(own), bytes(key)) == 0;
}

}  // namespace hearth::kvstore
