#include "fetch/sources/hub_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/ascii.h"
#include "digest/sha256.h"
#include "fetch/sources/reference.h"

namespace hearth::fetch {
namespace {

constexpr std::string_view kGguf = ".gguf";
constexpr std::string_view kSafetensors = ".safetensors";
constexpr std::size_t kSplitDigits = 5;
constexpr std::size_t kListed = 30;

// What most people want, first: small enough, hardly worse than the original.
constexpr std::array kUsualQuantisations{
    std::string_view("q4_k_m"), std::string_view("q4_k_s"), std::string_view("q4_0"),  std::string_view("q4_1"),
    std::string_view("q5_k_m"), std::string_view("q8_0"),   std::string_view("iq4_xs")};

bool is_digits(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

bool ends_with(std::string_view path, std::string_view ending) { return ascii_lower(path).ends_with(ending); }

// "-00001-of-00003" and the like before what the path ends with, which is as long as `ending`.
std::string suffix_before(std::string_view path, std::string_view ending) {
    constexpr std::size_t kBytes = 1 + kSplitDigits + 4 + kSplitDigits;
    if (path.size() < ending.size() + kBytes) return "";
    auto const suffix = path.substr(path.size() - ending.size() - kBytes, kBytes);
    bool const fits = suffix[0] == '-' && is_digits(suffix.substr(1, kSplitDigits)) &&
                      suffix.substr(1 + kSplitDigits, 4) == "-of-" && is_digits(suffix.substr(5 + kSplitDigits));
    return fits ? std::string(suffix) : "";
}

// What conversion may read beside weights: the config, the tokenizer's files, the card with the license; and of
// folders inside, each of which holds a part of the model, the config.
bool is_read_beside(std::string const& path) {
    auto const slash = path.find('/');
    if (slash != std::string::npos) {
        return std::string_view(path).substr(slash + 1) == "config.json" && is_file_name(path.substr(0, slash));
    }
    bool const named = path == "tokenizer.model" || path == "merges.txt" || path == "vocab.txt" || path == "README.md";
    return is_file_name(path) && (named || ends_with(path, ".json") || ends_with(path, ".jinja"));
}

// Parts of the same file: its folder counts, its number does not.
std::string set_of(std::string const& path) {
    auto const suffix = split_suffix(path);
    return path.substr(0, path.size() - kGguf.size() - suffix.size());
}

// `word` stands in `name` between what is neither letter nor digit.
bool holds_word(std::string_view name, std::string_view word) {
    auto const is_inner = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
    for (auto at = name.find(word); at != std::string_view::npos; at = name.find(word, at + 1)) {
        bool const left = at == 0 || !is_inner(name[at - 1]);
        auto const end = at + word.size();
        bool const right = end == name.size() || !(is_inner(name[end]) || name[end] == '_');
        if (left && right) return true;
    }
    return false;
}

bool is_model(std::string_view path) {
    auto const name = ascii_lower(base_name(path));
    bool const part_of_one = name.starts_with("mmproj") || name.find("imatrix") != std::string::npos;
    return name.ends_with(kGguf) && !part_of_one && is_file_name(base_name(path));
}

using Sets = std::map<std::string, std::vector<HubFile>>;

// The parts of each in order.
Sets sets_of(std::vector<HubFile> const& files) {
    Sets sets;
    for (auto const& file : files) {
        if (is_model(file.path)) sets[set_of(file.path)].push_back(file);
    }
    for (auto& [set, parts] : sets) std::ranges::sort(parts, {}, &HubFile::path);
    return sets;
}

Result<std::vector<HubFile>> all_parts(Sets const& sets, std::string const& set) {
    auto const& parts = sets.at(set);
    auto const suffix = split_suffix(parts.front().path);
    std::size_t count = 1;
    if (!suffix.empty())
        std::from_chars(suffix.data() + suffix.size() - kSplitDigits, suffix.data() + suffix.size(), count);
    if (parts.size() != count)
        return Error(Code::corrupt,
                     fmt::format("'{}' should have {} parts, the repository has {}", set, count, parts.size()));
    return parts;
}

Result<std::string> choose_set(Sets const& sets, std::string const& choice) {
    auto const wanted = ascii_lower(choice);
    std::vector<std::string> hits;
    auto const take = [&](std::string_view word) {
        for (auto const& [set, parts] : sets) {
            auto const name = ascii_lower(base_name(set));
            bool const named = !choice.empty() && (wanted == name || wanted == name + ".gguf" ||
                                                   wanted == ascii_lower(base_name(parts.front().path)));
            if (named || holds_word(name, word)) hits.push_back(set);
        }
    };
    if (!choice.empty()) {
        take(wanted);
    } else if (sets.size() == 1) {
        hits.push_back(sets.begin()->first);
    } else {
        for (auto const word : kUsualQuantisations) {
            if (hits.empty()) take(word);
        }
    }
    if (hits.size() == 1) return hits.front();
    std::string list;
    std::size_t listed = 0;
    for (auto const& [set, parts] : sets) {
        if (listed++ == kListed) list += fmt::format(" and {} more", sets.size() - kListed);
        if (listed > kListed) break;
        list += fmt::format("{}{}", listed == 1 ? "" : ", ", base_name(set));
    }
    auto const what = hits.empty()
                          ? fmt::format("there is no '{}'", choice.empty() ? "usual quantisation" : choice)
                          : fmt::format("'{}' means more than one file", choice.empty() ? "nothing chosen" : choice);
    return Error(Code::not_found, fmt::format("{}; add one of these after ':' : {}", what, list), "name");
}

}  // namespace

Result<HubListing> parse_hub_listing(std::string_view json) {
    auto const root = nlohmann::json::parse(json, nullptr, false);
    if (!root.is_object() || !root.contains("siblings") || !root["siblings"].is_array())
        return Error(Code::corrupt, "the hub's answer is no list of files");
    HubListing listing;
    auto const sha = root.find("sha");
    if (sha != root.end() && sha->is_string()) listing.commit = sha->get<std::string>();
    bool const commit = listing.commit.size() == 40 && std::ranges::all_of(listing.commit, [](char c) {
                            return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                        });
    if (!commit) return Error(Code::corrupt, "the hub's answer names no commit");
    if (root["siblings"].size() > kHubFilesMax)
        return Error(Code::too_large, fmt::format("the repository has {} files, the limit is {}",
                                                  root["siblings"].size(), kHubFilesMax));
    for (auto const& entry : root["siblings"]) {
        if (!entry.is_object()) return Error(Code::corrupt, "the hub's list holds what is no file");
        auto const name = entry.find("rfilename");
        if (name == entry.end() || !name->is_string())
            return Error(Code::corrupt, "the hub's list holds a file without a name");
        HubFile file{name->get<std::string>(), std::nullopt, ""};
        auto const size = entry.find("size");
        if (size != entry.end() && size->is_number_unsigned()) file.size = size->get<std::uint64_t>();
        auto const lfs = entry.find("lfs");
        if (lfs != entry.end() && lfs->is_object()) {
            auto const hash = lfs->find("sha256");
            if (hash != lfs->end() && hash->is_string() && digest::is_sha256(hash->get<std::string>()))
                file.sha256 = hash->get<std::string>();
        }
        listing.files.push_back(std::move(file));
    }
    return listing;
}

Result<std::vector<HubFile>> choose_gguf(std::vector<HubFile> const& files, std::string const& choice) {
    auto const sets = sets_of(files);
    if (sets.empty()) return std::vector<HubFile>();
    HEARTH_TRY(auto const set, choose_set(sets, choice));
    return all_parts(sets, set);
}

Result<std::vector<HubFile>> choose_gguf_again(std::vector<HubFile> const& files, std::vector<NotedFile> const& noted) {
    auto const sets = sets_of(files);
    auto const is_noted = [&](HubFile const& file) {
        return !file.sha256.empty() && std::ranges::find(noted, file.sha256, &NotedFile::sha256) != noted.end();
    };
    for (auto const& [set, parts] : sets)
        if (std::ranges::any_of(parts, is_noted)) return all_parts(sets, set);
    // Nobody says its hash, or it has another one by now.
    auto named = choose_gguf(files, noted.front().name);
    if (named) return named;
    // It was called otherwise here. Whether it is the one, its bytes will say.
    if (sets.size() == 1) return all_parts(sets, sets.begin()->first);
    return Error(Code::corrupt,
                 fmt::format("the repository has {} models by now, and none of them is known to be '{}'; `hearth pull` "
                             "gets another",
                             sets.size(), noted.front().name));
}

std::vector<HubFile> choose_safetensors(std::vector<HubFile> const& files) {
    auto const has = [&](std::string_view path) {
        return std::ranges::find(files, path, &HubFile::path) != files.end();
    };
    // One set of weights: the one that conversion opens.
    bool const sharded = has("model.safetensors.index.json");
    bool const single = !sharded && has("model.safetensors");
    std::vector<HubFile> chosen;
    bool weights = false, config = false;
    for (auto const& file : files) {
        bool const is_config = file.path == "config.json";
        bool const is_weight =
            ends_with(file.path, kSafetensors) && file.path.find('/') == std::string::npos && is_file_name(file.path);
        if (is_weight && single && file.path != "model.safetensors") continue;
        if (is_weight && sharded && suffix_before(file.path, kSafetensors).empty()) continue;
        if (!is_weight && !is_read_beside(file.path)) continue;
        weights = weights || is_weight;
        config = config || is_config;
        chosen.insert(is_config ? chosen.begin() : chosen.end(), file);
    }
    if (!weights || !config) chosen.clear();
    return chosen;
}

std::string split_suffix(std::string_view path) { return suffix_before(path, kGguf); }

std::string gguf_stem(std::string_view path) {
    auto const name = base_name(path);
    if (!ends_with(name, kGguf)) return std::string(name);
    return std::string(name.substr(0, name.size() - kGguf.size() - split_suffix(name).size()));
}

}  // namespace hearth::fetch
