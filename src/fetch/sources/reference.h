// Reference: what a user writes to say which model to get.
//
//   hf.co/ORG/REPO[@REVISION][:CHOICE]   Hugging Face hub; ORG/REPO alone is the same.
//                                        CHOICE: a quantisation (Q4_K_M) or a file
//   HOST[:PORT]/[NAMESPACE/]MODEL[:TAG]  a registry that speaks Ollama's protocol;
//                                        a name as names/names.h reads it
//   https://HOST/PATH                    a file
//   /PATH, ./PATH, ../PATH               a file or a folder of this machine
//
// Every part is taken by its grammar: letters, digits, '.', '_', '-', of the hub
// beginning with a letter or digit. So no part can leave the folder it becomes a name in.
//
// Threads: pure functions. Limits: kReferenceBytesMax, kPartBytesMax of the hub's parts.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "fetch/url.h"

namespace hearth::fetch {

inline constexpr std::size_t kReferenceBytesMax = 8192;
inline constexpr std::size_t kPartBytesMax = 128;

struct HubReference {
    std::string organisation, repository;
    std::string revision;  // a branch, tag or commit
    std::string choice;    // quantisation or file name; empty: the usual one
    bool operator==(HubReference const&) const = default;
};

struct RegistryReference {
    std::string host;  // with its port, if it has one
    std::string name_space, model, tag;
    bool operator==(RegistryReference const&) const = default;
};

struct UrlReference {
    Url url;
    bool operator==(UrlReference const&) const = default;
};

struct LocalReference {
    std::string path;
    bool operator==(LocalReference const&) const = default;
};

using Reference = std::variant<HubReference, RegistryReference, UrlReference, LocalReference>;

// `invalid_argument` says what is wrong and what can be written.
[[nodiscard]] Result<Reference> parse_reference(std::string_view text);

// The reference in full, to be compared and shown.
[[nodiscard]] std::string to_string(Reference const& reference);

// A name for a file that stays in its folder: no '/', no leading dot, no control
// characters, at most 200 bytes.
[[nodiscard]] bool is_file_name(std::string_view name);

}  // namespace hearth::fetch
