#include "convert/special_tokens.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "convert/vocabulary.h"

namespace hearth::convert {
namespace {

constexpr std::size_t kRulesDepthMax = 8;

struct KindKey {
    std::string_view kind;
    std::string_view id_key;   // empty: the engine has none
    std::string_view add_key;
};
constexpr std::array<KindKey, 9> kKeys{{{"bos", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token"},
                                        {"eos", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_eos_token"},
                                        {"unk", "tokenizer.ggml.unknown_token_id", ""},
                                        {"sep", "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.add_sep_token"},
                                        {"pad", "tokenizer.ggml.padding_token_id", ""},
                                        {"cls", "", ""},
                                        {"mask", "tokenizer.ggml.mask_token_id", ""},
                                        {"eot", "tokenizer.ggml.eot_token_id", ""},
                                        {"eom", "tokenizer.ggml.eom_token_id", ""}}};

KindKey key_of(std::string_view kind) {
    auto const* const found =
        std::find_if(kKeys.begin(), kKeys.end(), [&](KindKey const& key) { return key.kind == kind; });
    return found == kKeys.end() ? KindKey{} : *found;
}

std::string text_of(std::optional<json::View> value) {
    auto const text = value ? value->text() : std::nullopt;
    return std::string(text.value_or(""));
}

// A token is written as its text, or as an object with it.
std::string token_text(std::optional<json::View> value) {
    if (value && value->is(json::Kind::object)) return text_of(value->find("content"));
    return text_of(value);
}

// {"SpecialToken": {"id": TEXT}} and {"Sequence": {"id": "A"}}
std::string part_id(json::View part, std::string_view kind) {
    auto const inner = part.find(kind);
    return inner ? text_of(inner->find("id")) : std::string();
}

std::vector<json::View> parts_of(json::View processor, std::string_view name) {
    std::vector<json::View> parts;
    if (auto const list = processor.find(name)) {
        for (auto const part : list->elements()) parts.push_back(part);
    }
    return parts;
}

// The default template; a model may have several, by name.
std::string template_of(json::View value) {
    if (auto const text = value.text()) return std::string(*text);
    for (auto const choice : value.elements()) {
        if (text_of(choice.find("name")) == "default") return text_of(choice.find("template"));
    }
    return {};
}

Result<std::string> read_chat_template(HfConfig const& config, json::View tokenizer_config) {
    std::string found;
    if (auto const value = tokenizer_config.find_any("chat_template")) {
        found = template_of(*value);
    } else {
        HEARTH_TRY(auto jinja, read_text(config.folder() + "/chat_template.jinja", kChatTemplateBytesMax));
        HEARTH_TRY(auto const document, read_json(config.folder() + "/chat_template.json", config_limits()));
        auto const other = document ? document->root().find("chat_template") : std::nullopt;
        if (jinja) found = *std::move(jinja);
        else if (other) found = template_of(*other);
    }
    if (found.size() <= kChatTemplateBytesMax) return found;
    return Error(Code::too_large, fmt::format("{}: a chat template of {} bytes; at most {} are read", config.folder(),
                                              found.size(), kChatTemplateBytesMax));
}

}  // namespace

void SpecialTokens::set_add(std::string const& kind, bool value) {
    for (auto& [name, add] : add_) {
        if (name == kind) return void(add = value);
    }
    add_.emplace_back(kind, value);
}

std::optional<bool> SpecialTokens::add_of(std::string const& kind) const {
    for (auto const& [name, add] : add_) {
        if (name == kind) return add;
    }
    return std::nullopt;
}

void SpecialTokens::set_id(std::string const& kind, std::int64_t id, std::optional<std::uint32_t> vocabulary) {
    if (id < 0 || id >= static_cast<std::int64_t>(vocabulary.value_or(kVocabularyMax))) return;
    for (auto const& [name, known] : ids_) {
        if (name == kind) return;
    }
    ids_.emplace_back(kind, static_cast<std::uint32_t>(id));
}

std::string SpecialTokens::name_of(std::string const& kind) const {
    for (auto const& [name, text] : names_) {
        if (name == kind) return text;
    }
    return {};
}

void SpecialTokens::set_name(std::string const& kind, std::string text) {
    for (auto& [name, known] : names_) {
        if (name == kind) return void(known = std::move(text));
    }
    names_.emplace_back(kind, std::move(text));
}

Result<SpecialTokens> SpecialTokens::read(HfConfig const& config, TokenizerJson const* tokenizer,
                                          std::optional<json::View> tokenizer_config,
                                          std::optional<std::uint32_t> vocabulary) {
    SpecialTokens special;
    special.has_config_ = tokenizer_config.has_value();
    auto const part = [&](std::string_view name) {
        return tokenizer == nullptr ? std::nullopt : tokenizer->part(name);
    };
    if (auto const normalizer = part("normalizer")) special.read_normalizer(*normalizer, 0);
    if (tokenizer_config) {
        for (auto const& key : kKeys)
            special.set_name(std::string(key.kind),
                             token_text(tokenizer_config->find(fmt::format("{}_token", key.kind))));
        if (special.name_of("bos").empty()) special.set_name("bos", special.name_of("cls"));
        if (special.name_of("eos").empty()) special.set_name("eos", special.name_of("sep"));
    }
    if (auto const processor = part("post_processor")) {
        auto const list = processor->find("processors");
        if (!list) special.read_processor(*processor);
        if (list) {
            for (auto const inner : list->elements()) special.read_processor(inner);
        }
    }
    if (tokenizer_config) {
        HEARTH_TRY(special.chat_template_, read_chat_template(config, *tokenizer_config));
        for (auto const& kind : special.kinds_) {
            auto const add = tokenizer_config->find(fmt::format("add_{}_token", kind));
            if (add && add->boolean() && !special.add_of(kind)) special.set_add(kind, *add->boolean());
            auto const text = special.name_of(kind);
            if (tokenizer == nullptr || text.empty()) continue;
            auto const found = std::find_if(tokenizer->added.begin(), tokenizer->added.end(),
                                            [&](AddedToken const& added) { return added.content == text; });
            if (found != tokenizer->added.end()) special.set_id(kind, found->id, vocabulary);
        }
    }
    for (auto const& kind : special.kinds_) {
        auto const id = config.find({fmt::format("{}_token_id", kind)});
        if (id && id->integer()) special.set_id(kind, *id->integer(), vocabulary);
    }
    return special;
}

void SpecialTokens::read_processor(json::View processor) {
    auto const type = text_of(processor.find("type"));
    if (type == "ByteLevel") {
        if (!add_of("bos")) set_add("bos", false);
        if (!add_of("eos")) set_add("eos", false);
    } else if (type == "RobertaProcessing") {
        for (auto const* kind : {"bos", "eos", "sep"}) set_add(kind, true);
        auto const first_of = [&](std::string_view name, std::string const& other) {
            auto const pair = processor.find(name);
            return pair && pair->size() > 0 ? text_of(*pair->elements().begin()) : other;
        };
        if (has_config_ && name_of("cls").empty()) set_name("cls", first_of("cls", name_of("bos")));
        if (has_config_ && name_of("sep").empty()) set_name("sep", first_of("sep", name_of("eos")));
    } else if (type == "TemplateProcessing") {
        read_template(processor);
    }
}

// What stands first and last around a single text. Without tokenizer_config.json that is taken for bos and eos.
void SpecialTokens::read_template(json::View processor) {
    auto const single = parts_of(processor, "single");
    std::string first;
    std::string last;
    if (single.size() > 1) {
        first = part_id(single.front(), "SpecialToken");
        last = part_id(single.back(), "SpecialToken");
    }
    if (!first.empty()) {
        if (!has_config_) set_name("bos", first);
        else if (first != name_of("bos") && first != name_of("cls")) {
            if (name_of("bos").empty()) set_name("bos", first);
            if (name_of("cls").empty()) set_name("cls", first);
        }
        set_add("bos", first == name_of("bos") || first == name_of("cls"));
    }
    if (!last.empty()) {
        if (has_config_ && last != name_of("eos")) {
            auto const* const kind = std::find(kinds_.begin(), kinds_.end(), "eot") == kinds_.end() ? "eot" : "eom";
            if (std::find(kinds_.begin(), kinds_.end(), kind) == kinds_.end()) {
                kinds_.emplace_back(kind);
                set_name(kind, name_of("eos"));
            }
        }
        set_name("eos", last);
        set_add("eos", true);
    }
    read_pair(processor, first, last);
}

// Whether a separator stands between two texts, beyond what ends the first.
void SpecialTokens::read_pair(json::View processor, std::string const& first, std::string const& last) {
    auto pair = parts_of(processor, "pair");
    if (!first.empty() && !pair.empty() && part_id(pair.front(), "SpecialToken") == first) pair.erase(pair.begin());
    if (!last.empty() && !pair.empty() && part_id(pair.back(), "SpecialToken") == last) pair.pop_back();
    if (pair.size() < 3 || part_id(pair.front(), "Sequence") != "A" || part_id(pair.back(), "Sequence") != "B") return;
    auto const is_end = [&](std::string const& text) {
        return !text.empty() && (text == name_of("sep") || text == name_of("eos"));
    };
    bool separate = is_end(part_id(pair[1], "SpecialToken")) && last.empty();
    if (pair.size() == 4 && is_end(part_id(pair[2], "SpecialToken"))) separate = true;
    set_add("sep", separate);
    if (separate && name_of("sep").empty() && has_config_) set_name("sep", name_of("eos"));
}

void SpecialTokens::read_normalizer(json::View normalizer, std::size_t depth) {
    auto const type = text_of(normalizer.find("type"));
    if (type == "Lowercase") lowercase_ = true;
    if (type == "StripAccents") strip_accents_ = true;
    if (type == "BertNormalizer") {
        if (auto const value = normalizer.find("lowercase")) lowercase_ = value->boolean();
        if (auto const value = normalizer.find("strip_accents")) strip_accents_ = value->boolean();
    }
    if (type != "Sequence" || depth >= kRulesDepthMax) return;
    if (auto const list = normalizer.find("normalizers")) {
        for (auto const inner : list->elements()) read_normalizer(inner, depth + 1);
    }
}

void SpecialTokens::add_to(Metadata& metadata) const {
    for (auto const& [kind, id] : ids_) {
        if (auto const key = key_of(kind).id_key; !key.empty()) metadata.u32(key, id);
    }
    for (auto const& [kind, value] : add_) {
        if (auto const key = key_of(kind).add_key; !key.empty()) metadata.boolean(key, value);
    }
    metadata.text("tokenizer.chat_template", chat_template_);
    if (lowercase_) metadata.boolean("tokenizer.ggml.normalizer.lowercase", *lowercase_);
    if (strip_accents_) metadata.boolean("tokenizer.ggml.normalizer.strip_accents", *strip_accents_);
}

}  // namespace hearth::convert
