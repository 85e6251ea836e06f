// What all dialects share about the library: models by name, and its errors.
//
// Threads: the loop's.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "api/errors.h"
#include "api/routes.h"
#include "catalog/catalog.h"
#include "domain/model.h"
#include "library/library.h"
#include "net/task.h"

namespace hearth::api {

class JsonWriter;

// The pool's id of the model `name` means; one that is not in the pool gets there.
// Without a library: of the pool's own. Errors as Library::open(). `onlooker`, which may be null, outlives it.
net::Task<Result<std::string>> open_model(Services& services, std::string name, library::Onlooker* onlooker = nullptr);

// Why it did not. Nothing but an onlooker who has left ends it by a cancel.
[[nodiscard]] Problem opening_problem(Error const& error);

// Waits for a model as long as the client does, who is told nothing meanwhile.
class Presence final : public library::Onlooker {
public:
    // `exchange` outlives it.
    explicit Presence(http::Exchange const& exchange) : exchange_(exchange) {}
    net::Task<bool> see(jobs::Progress const& progress) override;

private:
    http::Exchange const& exchange_;
};

// All models there are, once the folders were looked into: one for each of their names.
net::Task<std::vector<library::Known>> known_models(Services& services);

// Those of the pool, by the names they were asked for last.
net::Task<std::vector<library::Known>> pooled_models(Services& services);
[[nodiscard]] std::string name_asked(Services const& services, serving::ModelStatus const& status);

// The one that `name` means; it does not get into the pool.
net::Task<Result<library::Known>> known_model(Services& services, std::string name);

// What clients may ask of it here: what the worker said, where there was one, since it knows
// more than the file tells. What the file tells and no request can ask for yet is left out.
[[nodiscard]] std::vector<std::string> capabilities_of(domain::ModelInfo const* info, catalog::Model const* model);

// Without the folders it lies in: clients need not know them.
[[nodiscard]] std::string file_name(std::string const& path);

// What it goes by besides the name it is listed by.
[[nodiscard]] std::vector<std::string> other_names(library::Known const& known);

// "adapters": [{"file": ..., "scale": ...}], of the model itself or on top of its base.
void write_adapters(JsonWriter& json, serving::ModelStatus const& model);

// What a model is doing, in words of the API; why it is not served, empty if it is.
[[nodiscard]] std::string_view state_of(library::Known const& known);
[[nodiscard]] std::string problem_of(library::Known const& known);

// As to_problem(), and what only the library says.
[[nodiscard]] Problem library_problem(Error const& error);

// The library, or the problem to tell where there is none.
[[nodiscard]] Result<library::Library*> need_library(Services& services);

// What `call` gives, which is asked of the library; or that there is none.
template <typename Call>
std::invoke_result_t<Call, library::Library&> ask_library(Services& services, Call call) {
    auto const library = need_library(services);
    if (!library) co_return library.error();
    co_return co_await call(**library);
}

}  // namespace hearth::api
