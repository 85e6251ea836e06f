#include "api/library.h"

#include <algorithm>
#include <utility>

#include "api/json_writer.h"
#include "library/permits.h"
#include "library/puller.h"

namespace hearth::api {

net::Task<Result<std::string>> open_model(Services& services, std::string name, library::Onlooker* onlooker) {
    if (services.library != nullptr)
        co_return co_await services.library->open(std::move(name), library::Use::counted, onlooker);
    auto status = services.pool.status(name);
    if (!status) co_return status.error();
    co_return std::move(status->id);
}

Problem opening_problem(Error const& error) {
    if (error.code == Code::cancelled) return make_problem(Kind::request_cancelled, "The client left.");
    return library_problem(error);
}

net::Task<bool> Presence::see(jobs::Progress const&) { co_return !exchange_.disconnected(); }

net::Task<std::vector<library::Known>> known_models(Services& services) {
    if (services.library != nullptr) {
        co_await services.library->settled();
        co_return services.library->entries();
    }
    std::vector<library::Known> known;
    for (auto& status : services.pool.models()) {
        auto& each = known.emplace_back();
        each.name = status.id;
        each.status = std::move(status);
    }
    co_return known;
}

net::Task<std::vector<library::Known>> pooled_models(Services& services) {
    if (services.library == nullptr) co_return co_await known_models(services);
    co_await services.library->settled();
    auto known = services.library->list();
    std::erase_if(known, [](auto const& each) { return !each.status; });
    for (auto& each : known) each.name = services.library->asked_as(each);
    co_return known;
}

std::string name_asked(Services const& services, serving::ModelStatus const& status) {
    if (services.library == nullptr) return status.id;
    auto const known = services.library->find(status.id);
    return known ? services.library->asked_as(*known) : status.id;
}

net::Task<Result<library::Known>> known_model(Services& services, std::string name) {
    if (services.library != nullptr) {
        co_await services.library->settled();
        co_return services.library->find(name);
    }
    auto status = services.pool.status(name);
    if (!status) co_return status.error();
    library::Known known;
    known.name = status->id;
    known.status = *std::move(status);
    co_return known;
}

std::vector<std::string> capabilities_of(domain::ModelInfo const* info, catalog::Model const* model) {
    std::vector<std::string> out;
    auto const can = [&](char const* capability, bool said) {
        if (said) out.emplace_back(capability);
    };
    if (info != nullptr) {
        can("completion", info->generates);
        can("embedding", info->embeds);
        can("insert", info->infills);
        can("rerank", info->ranks);
    } else if (model != nullptr) {
        out = catalog::servable_capabilities(*model);
    } else {
        can("completion", true);
    }
    return out;
}

std::vector<std::string> other_names(library::Known const& known) {
    std::vector<std::string> names;
    auto const add = [&](std::string const& name) {
        if (name != known.name && std::ranges::find(names, name) == names.end()) names.push_back(name);
    };
    if (known.status) add(known.status->id);
    if (known.status) std::ranges::for_each(known.status->aliases, add);
    if (known.model) add(known.model->name);
    if (known.model) std::ranges::for_each(known.model->aliases, add);
    return names;
}

std::string file_name(std::string const& path) { return path.substr(path.rfind('/') + 1); }

void write_adapters(JsonWriter& json, serving::ModelStatus const& model) {
    json.key("adapters").begin_array();
    for (auto const& [file, scale] : model.adapters)
        json.begin_object().key("file").string(file_name(file)).key("scale").number(scale).end_object();
    json.end_array();
}

Problem library_problem(Error const& error) {
    auto problem = to_problem(error);
    auto const become = [&](Kind kind) {
        problem.kind = kind;
        problem.message = error.message;
        problem.internal.clear();
        problem.param.clear();
    };
    if (error.param == library::kNotAllowed) become(Kind::forbidden);
    else if (error.param == library::kTemplateChanged) become(Kind::template_changed);
    else if (error.param == library::kRefused) become(Kind::source_refused);
    else if (error.param == library::kNotReshaped) become(Kind::model_unavailable);
    else if (error.code == Code::unavailable && problem.kind != Kind::model_damaged) become(Kind::no_library);
    return problem;
}

std::string_view state_of(library::Known const& known) {
    if (!known.damage().empty()) return to_string(serving::ModelState::damaged);
    return to_string(known.status ? known.status->state : serving::ModelState::cold);
}

std::string problem_of(library::Known const& known) {
    auto damage = known.damage();
    if (!damage.empty()) return damage;
    return known.model ? known.model->problem : known.status->problem;
}

Result<library::Library*> need_library(Services& services) {
    if (services.library != nullptr) return services.library;
    return Error(Code::unavailable, "this server has no folder to keep models in");
}

}  // namespace hearth::api
