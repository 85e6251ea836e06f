#include "api/openai/request.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <fmt/format.h>

#include "api/definition.h"
#include "api/embedding.h"
#include "api/field_table.h"
#include "api/openai/embeddings.h"
#include "api/openai/fields.h"
#include "api/openai/messages.h"
#include "api/openai/rerank.h"
#include "api/values.h"

namespace hearth::api::openai {
namespace {

constexpr std::uint32_t kTextMaxTokens = 16;  // OpenAI's default of /v1/completions

Problem invalid_json(std::string message) { return make_problem(Kind::invalid_json, std::move(message)); }

std::string_view prompt_field(Surface surface) {
    if (surface == Surface::embed) return "input";
    return surface == Surface::text ? "prompt" : "messages";
}

// What one field alone cannot tell.
Verdict check_together(Draft const& draft) {
    bool const text = draft.surface == Surface::text;
    if (draft.prompts.empty()) return missing(prompt_field(draft.surface));
    if (draft.surface == Surface::embed || draft.surface == Surface::rank) return std::nullopt;
    auto const total = draft.prompts.size() * draft.request.choices;
    if (total > kChoicesTotalMax)
        return invalid_value(
            "n", fmt::format("'n' times the number of prompts is {}, the limit is {}.", total, kChoicesTotalMax));
    if (!text && draft.request.top_logprobs.value_or(0) > 0 && !draft.logprobs.value_or(false))
        return invalid_value("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.");
    if (draft.best_of && *draft.best_of < draft.request.choices)
        return invalid_value("best_of", fmt::format("'best_of' must be at least 'n' ({}), got {}.",
                                                    draft.request.choices, *draft.best_of));
    if (draft.best_of && *draft.best_of > draft.request.choices) {
        return unsupported("best_of", fmt::format("'best_of' above 'n' ({}) is not supported by this server, got {}.",
                                                  draft.request.choices, *draft.best_of));
    }
    if (draft.echo && draft.request.top_logprobs)
        return unsupported("echo", "'echo' together with 'logprobs' is not supported by this server.");
    return std::nullopt;
}

Verdict read_echoes(Draft const& draft, Call& call) {
    if (!draft.echo) return std::nullopt;
    for (auto const& prompt : draft.prompts) {
        auto const* text = std::get_if<domain::TextPrompt>(&prompt);
        if (text == nullptr) return unsupported("echo", "'echo' is not supported for prompts given as token ids.");
        call.echoes.push_back(text->text);
    }
    return std::nullopt;
}

// Names the field as the body spelled it, where it used an alias.
void respell(Problem& problem, Draft const& draft) {
    for (auto const& [canonical, used] : draft.aliases) {
        if (problem.param != canonical) continue;
        if (auto const at = problem.message.find(canonical); at != std::string::npos)
            problem.message.replace(at, canonical.size(), used);
        problem.param = used;
    }
}

// Chat has a switch and a count; the engine knows the count alone.
void settle_logprobs(Draft& draft) {
    auto& count = draft.request.top_logprobs;
    if (!draft.logprobs.value_or(false)) count.reset();
    else if (!count) count = 0;
}

Verdict fill(Draft&& draft, Call& call) {
    if (draft.surface == Surface::chat) settle_logprobs(draft);
    call.surface = draft.surface;
    call.choices = draft.request.choices;
    call.vectors = draft.vectors;
    call.ranks = std::move(draft.ranks);
    call.logprobs = draft.request.top_logprobs.has_value();
    call.stream = draft.stream;
    call.include_usage = draft.include_usage;
    call.tier_asked = draft.tier_asked;
    call.ping_interval = draft.ping_interval;
    draft.request.return_prompt_progress = draft.request.return_prompt_progress && draft.stream;
    for (auto& prompt : draft.prompts) {
        if (auto* chat = std::get_if<domain::ChatPrompt>(&prompt))
            chat->add_generation_prompt = draft.add_generation_prompt;
        auto request = draft.request;
        request.prompt = std::move(prompt);
        if (auto const status = domain::validate(request); !status) {
            auto problem = to_problem(status.error());
            respell(problem, draft);
            return problem;
        }
        call.generations.push_back(std::move(request));
    }
    return std::nullopt;
}

}  // namespace

std::variant<Call, Problem> parse_request(Surface surface, std::string_view body, CallDefaults const& defaults) {
    if (body.find_first_not_of(" \t\r\n") == std::string_view::npos)
        return invalid_json("The body is empty; send one JSON object.");
    auto const document = JsonDocument::parse(body);
    if (!document) return invalid_json(document.error().message);
    auto const root = document->root();
    if (root.kind() != JsonKind::object)
        return invalid_json(fmt::format("The body must be a JSON object, got {}.", describe(root.kind())));

    Draft draft;
    draft.surface = surface;
    draft.request.deadlines = defaults.deadlines;
    draft.request.tenant = defaults.tenant;
    if (surface == Surface::text) draft.request.max_tokens = kTextMaxTokens;
    if (defaults.definition != nullptr)
        if (auto problem = apply_parameters(*defaults.definition, draft.request)) return *std::move(problem);
    if (auto problem = read_fields(fields(), root, draft)) return *std::move(problem);
    if (surface == Surface::rank)
        if (auto problem = make_pairs(draft)) return *std::move(problem);
    std::erase_if(draft.aliases, [&](auto const& alias) { return root.find(alias.first).has_value(); });
    for (auto& prompt : split_inputs(std::exchange(draft.inputs, {}), draft.truncate))
        draft.prompts.emplace_back(std::move(prompt));
    if (auto problem = check_together(draft)) return *std::move(problem);
    if (surface == Surface::chat && defaults.definition != nullptr)
        open_conversation(*defaults.definition, Opening::all,
                          std::get<domain::ChatPrompt>(draft.prompts.front()).messages);
    Call call;
    call.unknown_fields = unknown_fields(fields(), root, surface);
    if (auto problem = read_echoes(draft, call)) return *std::move(problem);
    if (auto problem = fill(std::move(draft), call)) return *std::move(problem);
    return call;
}

}  // namespace hearth::api::openai
