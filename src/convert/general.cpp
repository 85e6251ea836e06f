#include "convert/general.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "convert/model_card.h"
#include "convert/model_name.h"

namespace hearth::convert {
namespace {

// The sampling parameters a model's makers recommend.
struct Sampling {
    std::string_view key;
    std::string_view name;
    bool whole;
};
constexpr std::array<Sampling, 11> kSampling{{{"general.sampling.top_k", "top_k", true},
                                              {"general.sampling.top_p", "top_p", false},
                                              {"general.sampling.min_p", "min_p", false},
                                              {"general.sampling.xtc_probability", "xtc_probability", false},
                                              {"general.sampling.xtc_threshold", "xtc_threshold", false},
                                              {"general.sampling.temp", "temperature", false},
                                              {"general.sampling.penalty_last_n", "penalty_last_n", true},
                                              {"general.sampling.penalty_repeat", "penalty_repeat", false},
                                              {"general.sampling.mirostat", "mirostat", true},
                                              {"general.sampling.mirostat_tau", "mirostat_tau", false},
                                              {"general.sampling.mirostat_eta", "mirostat_eta", false}}};

Status add_sampling(Metadata& metadata, HfConfig const& config) {
    auto const path = config.folder() + "/generation_config.json";
    auto const document = read_json(path, config_limits());
    // As upstream: not all models have a valid one, and none is needed.
    if (!document && document.error().code == Code::corrupt) return ok();
    if (!document) return document.error();
    if (!document->has_value()) return ok();
    auto const root = document->value().root();
    for (auto const& [key, name, whole] : kSampling) {
        auto value = root.find(name);
        if (!value && name == "penalty_repeat") value = root.find("repetition_penalty");
        if (!value) continue;
        auto const number = value->number();
        auto const integer = value->integer();
        bool const fits = integer && *integer >= std::numeric_limits<std::int32_t>::min() &&
                          *integer <= std::numeric_limits<std::int32_t>::max();
        if (whole ? !fits : !number)
            return Error(Code::corrupt, fmt::format("{}: {}: is {}", path, name, describe(value->kind())), path);
        if (whole) metadata.i32(key, static_cast<std::int32_t>(*integer));
        else metadata.f32(key, *number);
    }
    return ok();
}

// The first that says something.
std::string first_of(std::initializer_list<std::string_view> values) {
    for (auto const value : values) {
        if (!value.empty()) return std::string(value);
    }
    return {};
}

// A model or data set that this one was made from: an id of the hub, or an address.
struct Origin {
    ModelName name;
    std::string url;
};

Origin origin_of(std::string_view id, std::uint64_t parameters) {
    constexpr std::string_view kHub = "huggingface.co/";
    bool const address = id.starts_with("https://") || id.starts_with("http://") || id.starts_with("ssh://");
    if (!address) {
        Origin origin{.name = parse_model_name(id, parameters), .url = {}};
        if (!origin.name.organization.empty())
            origin.url = fmt::format("https://{}{}/{}", kHub, origin.name.organization, origin.name.full);
        return origin;
    }
    Origin origin{.name = {}, .url = std::string(id)};
    auto const host = id.find("://") + 3;
    if (id.starts_with("http") && id.substr(host).starts_with(kHub)) {
        auto const path = id.substr(host + kHub.size());
        if (std::count(path.begin(), path.end(), '/') == 1 && !path.starts_with('/') && !path.ends_with('/'))
            origin.name = parse_model_name(path, parameters);
    }
    return origin;
}

void add_origins(Metadata& metadata, std::string_view key, std::vector<std::string> const& ids,
                 std::uint64_t parameters) {
    if (ids.empty()) return;
    metadata.u32(fmt::format("general.{}.count", key), static_cast<std::uint32_t>(ids.size()));
    for (std::size_t i = 0; i < ids.size(); ++i) {
        auto const origin = origin_of(ids[i], parameters);
        auto const prefix = fmt::format("general.{}.{}.", key, i);
        metadata.text(prefix + "name", title_of(origin.name.full));
        metadata.text(prefix + "version", origin.name.version);
        metadata.text(prefix + "organization", title_of(origin.name.organization));
        metadata.text(prefix + "repo_url", origin.url);
    }
}

std::vector<std::string> first_list(ModelCard const& card, std::initializer_list<std::string_view> keys) {
    for (auto const key : keys) {
        if (auto list = card.list(key); !list.empty()) return list;
    }
    return {};
}

std::vector<std::string> both_lists(ModelCard const& card, std::string_view first, std::string_view second) {
    auto list = card.list(first);
    for (auto& value : card.list(second)) list.push_back(std::move(value));
    return list;
}

void add_names(Metadata& metadata, ModelCard const& card, ModelName const& config, ModelName const& folder,
               std::string const& size_label) {
    auto const said = [&](std::string_view key) {
        return first_of({card.scalar(key), card.scalar(fmt::format("model_{}", key))});
    };
    metadata.text("general.name", first_of({said("name"), title_of(config.full), title_of(folder.full), folder.full}));
    metadata.text("general.author", first_of({said("author"), card.scalar("model_creator")}));
    metadata.text("general.version", first_of({said("version"), config.version, folder.version}));
    metadata.text("general.organization",
                  first_of({said("organization"), title_of(config.organization), title_of(folder.organization)}));
    metadata.text("general.finetune", first_of({said("finetune"), config.finetune, folder.finetune}));
    metadata.text("general.basename",
                  first_of({said("basename"), card.scalar("model_type"), config.basename, folder.basename}));
    metadata.text("general.description", said("description"));
    metadata.text("general.size_label",
                  first_of({said("size_label"), config.size_label, folder.size_label, size_label}));
}

}  // namespace

Status add_general(Metadata& metadata, HfConfig const& config, std::string const& folder_name, std::uint64_t parameters,
                   std::string const& size_label) {
    auto const readme = read_text(config.folder() + "/README.md", kModelCardBytesMax);
    bool const too_long = !readme && readme.error().code == Code::too_large;  // a book, but no reason not to convert
    if (!readme && !too_long) return readme.error();
    auto const card = readme && readme->has_value() ? parse_model_card(readme->value()) : ModelCard();
    auto const path = config.find({"_name_or_path"});
    auto const id = path ? path->text().value_or("") : "";
    // Only an id of the hub says something; a path of the machine it was trained on does not.
    auto const from_config =
        std::count(id.begin(), id.end(), '/') <= 1 ? parse_model_name(id, parameters) : ModelName();
    auto const from_folder = parse_model_name(folder_name, parameters);

    metadata.text("general.type", "model");
    HEARTH_CHECK(add_sampling(metadata, config));
    add_names(metadata, card, from_config, from_folder, size_label);
    metadata.text("general.license", fmt::format("{}", fmt::join(card.list("license"), ",")));
    metadata.text("general.license.name", card.scalar("license_name"));
    metadata.text("general.license.link", card.scalar("license_link"));
    metadata.text("general.source.url", first_of({card.scalar("url"), card.scalar("model_url")}));
    metadata.text("general.source.doi", first_of({card.scalar("doi"), card.scalar("model_doi")}));
    metadata.text("general.source.uuid", first_of({card.scalar("uuid"), card.scalar("model_uuid")}));
    metadata.text("general.source.repo_url", first_of({card.scalar("repo_url"), card.scalar("model_repo_url")}));
    add_origins(metadata, "base_model", first_list(card, {"base_model", "base_models", "base_model_sources"}),
                parameters);
    add_origins(metadata, "dataset", first_list(card, {"datasets", "dataset", "dataset_sources"}), parameters);
    metadata.texts("general.tags", both_lists(card, "tags", "pipeline_tag"));
    metadata.texts("general.languages", both_lists(card, "languages", "language"));
    return ok();
}

}  // namespace hearth::convert
