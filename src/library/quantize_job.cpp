#include "library/quantize_job.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

namespace hearth::library {

std::string to_payload(QuantizeWish const& wish) {
    nlohmann::ordered_json const json{{"model", wish.model}, {"path", wish.path}};
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Result<QuantizeWish> quantize_wish_of(std::string const& payload) {
    auto const json = nlohmann::json::parse(payload, nullptr, false);
    auto const text = [&](char const* name) { return json.contains(name) && json[name].is_string(); };
    if (!json.is_object() || !text("model") || !text("path"))
        return Error(Code::corrupt, "the payload of a job that quantises a model is not one");
    return QuantizeWish{json["model"].get<std::string>(), json["path"].get<std::string>()};
}

Status QuantizeHandler::make(jobs::Context& context) {
    HEARTH_TRY(auto const wish, quantize_wish_of(context.job().payload));
    // A job may be left from a server that was started otherwise.
    if (!make_) return Error(Code::unsupported, "this server quantises no models (--quantize)");
    HEARTH_TRY(auto made, make_(wish.path, [&](MakeProgress const& progress) {
                   auto const* const text = progress.quantizing ? "quantizing model" : "converting model";
                   bool const goes_on = context.report({progress.done, progress.total, text}).has_value();
                   return goes_on && !context.stop().stop_requested();
               }));
    std::lock_guard const lock(mutex_);
    // What nobody took of an earlier one is not held for nobody.
    std::erase_if(results_, [&](Kept const& kept) { return kept.source == wish.path; });
    if (results_.size() == kReshapedKept) results_.pop_front();
    bool const held = made.hold != nullptr;
    results_.push_back({context.job().id, wish.path, std::move(made), held, {}});
    return ok();
}

jobs::Outcome QuantizeHandler::run(jobs::Context& context) {
    auto made = make(context);
    if (!made && tell_) tell_(context.job().id, made.error());
    return {std::move(made), jobs::Retry::never};
}

std::optional<Reshaped> QuantizeHandler::result_of(std::string const& id) {
    std::lock_guard const lock(mutex_);
    auto const found = std::ranges::find(results_, id, &Kept::job);
    if (found == results_.end()) return std::nullopt;
    auto& [job, source, file, held, lent] = *found;
    if (!held) return file;
    auto hold = file.hold ? std::exchange(file.hold, nullptr) : lent.lock();
    if (!hold) return std::nullopt;
    lent = hold;
    return Reshaped{file.path, std::move(hold)};
}

}  // namespace hearth::library
