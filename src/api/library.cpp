#include "api/library.h"

#include <utility>

#include "library/permits.h"

namespace hearth::api {

net::Task<Result<std::string>> open_model(Services& services, std::string name) {
    if (services.library != nullptr) co_return co_await services.library->open(std::move(name));
    auto status = services.pool.status(name);
    if (!status) co_return status.error();
    co_return std::move(status->id);
}

net::Task<std::vector<library::Known>> known_models(Services& services) {
    if (services.library != nullptr) {
        co_await services.library->settled();
        co_return services.library->list();
    }
    std::vector<library::Known> known;
    for (auto& status : services.pool.models()) {
        auto& each = known.emplace_back();
        each.name = status.id;
        each.status = std::move(status);
    }
    co_return known;
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
    else if (error.code == Code::unavailable) become(Kind::no_library);
    return problem;
}

Result<library::Library*> need_library(Services& services) {
    if (services.library != nullptr) return services.library;
    return Error(Code::unavailable, "this server has no folder to keep models in");
}

}  // namespace hearth::api
