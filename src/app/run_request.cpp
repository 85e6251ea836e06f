#include "app/run_request.h"

#include <utility>

#include "api/defined_request.h"

namespace hearth::app {

Result<domain::GenerateRequest> run_request(RunFlags const& flags, std::string prompt,
                                            modelfile::Definition const& definition) {
    domain::GenerateRequest request;
    request.sampling.temperature = kRunTemperature;
    if (flags.raw) {
        request.prompt = domain::TextPrompt{std::move(prompt)};
    } else {
        domain::ChatPrompt chat;
        if (!flags.system.empty()) chat.messages.push_back({"system", flags.system});
        chat.messages.push_back({"user", std::move(prompt)});
        request.prompt = std::move(chat);
    }
    HEARTH_CHECK(api::apply_definition(definition, request));

    auto& sampling = request.sampling;
    if (flags.temperature) sampling.temperature = *flags.temperature;
    if (flags.top_p) sampling.top_p = *flags.top_p;
    if (flags.top_k) sampling.top_k = *flags.top_k;
    if (flags.min_p) sampling.min_p = *flags.min_p;
    if (flags.seed && *flags.seed >= 0) sampling.seed = static_cast<std::uint64_t>(*flags.seed);
    else if (flags.seed) sampling.seed.reset();
    if (flags.max_tokens) request.max_tokens = flags.max_tokens;
    if (!flags.stop.empty()) request.stop = flags.stop;
    HEARTH_CHECK(domain::validate(request));
    return request;
}

}  // namespace hearth::app
