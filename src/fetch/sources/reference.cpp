#include "fetch/sources/reference.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/ascii.h"
#include "names/names.h"

namespace hearth::fetch {
namespace {

constexpr std::size_t kFileNameBytesMax = 200;
constexpr std::size_t kShownMax = 200;
constexpr std::array kHubHosts{std::string_view("hf.co"), std::string_view("huggingface.co")};

Error bad(std::string_view text, std::string_view why) {
    std::string shown;
    for (char const c : text.substr(0, kShownMax)) shown += c >= ' ' && c < 0x7f ? c : '?';
    return {Code::invalid_argument,
            fmt::format("'{}' names no model to get: {}. Write hf.co/ORG/REPO[:QUANT], HOST/NAMESPACE/MODEL[:TAG], "
                        "https://HOST/FILE or ./FILE",
                        shown, why),
            "name"};
}

bool is_letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool is_part(std::string_view text) {
    return !text.empty() && text.size() <= kPartBytesMax && is_letter_or_digit(text.front()) &&
           text.find("..") == std::string_view::npos &&
           std::ranges::all_of(text, [](char c) { return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-'; });
}

std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> parts;
    for (std::size_t at = 0; at <= text.size();) {
        auto const end = std::min(text.find('/', at), text.size());
        parts.emplace_back(text.substr(at, end - at));
        at = end + 1;
    }
    return parts;
}

// Takes what follows the last `mark` off `text`; none where there is no mark.
std::optional<std::string> take_after(std::string& text, char mark) {
    auto const at = text.rfind(mark);
    if (at == std::string::npos) return std::nullopt;
    auto after = text.substr(at + 1);
    text.resize(at);
    return after;
}

Result<Reference> parse_hub(std::string_view text, std::vector<std::string> parts) {
    if (parts.size() != 2) return bad(text, "the hub has models as ORG/REPO");
    HubReference hub{parts[0], parts[1], "main", ""};
    if (auto choice = take_after(hub.repository, ':')) {
        if (!is_part(*choice)) return bad(text, "what follows ':' is neither a quantisation nor a file name");
        hub.choice = *choice;
    }
    if (auto revision = take_after(hub.repository, '@')) {
        if (!is_part(*revision)) return bad(text, "what follows '@' is no revision");
        hub.revision = *revision;
    }
    if (!is_part(hub.organisation) || !is_part(hub.repository)) return bad(text, "ORG or REPO holds what they cannot");
    return Reference(std::move(hub));
}

Result<Reference> parse_registry(std::string_view text) {
    auto name = names::parse_model_name(text);
    if (!name) return bad(text, name.error().message);
    RegistryReference registry{ascii_lower(name->host), std::move(name->space), std::move(name->model),
                               std::move(name->tag)};
    auto const origin = parse_url("https://" + registry.host);
    if (!origin || origin->target != "/") return bad(text, "the registry's host is none");
    return Reference(std::move(registry));
}

}  // namespace

Result<Reference> parse_reference(std::string_view text) {
    if (text.empty()) return bad(text, "it is empty");
    if (text.size() > kReferenceBytesMax)
        return bad(text, fmt::format("it has {} bytes, the limit is {}", text.size(), kReferenceBytesMax));
    if (text.find("://") != std::string_view::npos) {
        HEARTH_TRY(auto url, parse_url(text));
        auto parts = split(std::string_view(url.target).substr(1));
        bool const on_hub = std::ranges::find(kHubHosts, url.host) != kHubHosts.end();
        if (on_hub && parts.size() == 2) return parse_hub(text, std::move(parts));
        return Reference(UrlReference{std::move(url)});
    }
    if (text.starts_with('/') || text.starts_with("./") || text.starts_with("../"))
        return Reference(LocalReference{std::string(text)});
    auto parts = split(text);
    if (parts.size() == 1)
        return bad(text, "it does not say from where (with --source FROM, it is the name the model gets)");
    if (std::ranges::find(kHubHosts, ascii_lower(parts[0])) != kHubHosts.end()) {
        parts.erase(parts.begin());
        return parse_hub(text, std::move(parts));
    }
    // As in Docker's names: a first part with a dot or a port is a host.
    bool const host = parts[0].find_first_of(".:[") != std::string::npos || ascii_lower(parts[0]) == "localhost";
    if (host) return parse_registry(text);
    return parse_hub(text, std::move(parts));
}

std::string to_string(Reference const& reference) {
    struct Visitor {
        std::string operator()(HubReference const& hub) const {
            auto text = fmt::format("hf.co/{}/{}", hub.organisation, hub.repository);
            if (hub.revision != "main") text += "@" + hub.revision;
            return hub.choice.empty() ? text : text + ":" + hub.choice;
        }
        std::string operator()(RegistryReference const& registry) const {
            return fmt::format("{}/{}/{}:{}", registry.host, registry.name_space, registry.model, registry.tag);
        }
        std::string operator()(UrlReference const& url) const { return url.url.text_without_query(); }
        std::string operator()(LocalReference const& local) const { return local.path; }
    };
    return std::visit(Visitor{}, reference);
}

bool is_file_name(std::string_view name) {
    return !name.empty() && name.size() <= kFileNameBytesMax && name.front() != '.' &&
           std::ranges::all_of(
               name, [](char c) { return c != '/' && c != '\\' && static_cast<unsigned char>(c) >= ' ' && c != 0x7f; });
}

}  // namespace hearth::fetch
