// Which served model an Ollama name means, what is known of it, and when it can
// answer. Private to the dialect.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "api/errors.h"
#include "api/routes.h"
#include "api/values.h"
#include "http/server.h"
#include "library/library.h"
#include "net/task.h"
#include "serving/pool.h"

namespace hearth::api::ollama {

class StatusLines;

// By id or alias as it is, else as Ollama compares names: NAME means
// NAME:latest, and case makes no difference. Empty means none.
[[nodiscard]] std::optional<serving::ModelStatus> find_model(serving::Pool const& pool, std::string_view wanted);

// The same, of all models the server can serve: one that is not in the pool stays out of it.
net::Task<Result<library::Known>> find_known(Services& services, std::string wanted);

// The same, and one that is not in the pool gets there. `onlooker` is told what that takes.
net::Task<std::variant<serving::ModelStatus, Problem>> open(Services& services, std::string wanted,
                                                            library::Onlooker* onlooker);

// Has it leave memory once what it has was answered. Nothing is loaded or made for that: what is not in the pool
// is gone already. With `refusal` it stays, and that is the answer, but for what is not known.
net::Task<Verdict> let_go(Services& services, std::string wanted, Verdict refusal = {});

// What a model is called in lists: its id, with a tag where it can have one.
[[nodiscard]] std::string display_name(std::string const& id);

// The model once it has been loaded (`loaded`) or can answer now (`ready`), or
// why it does neither, at the latest when the time one request may take is over or
// when the client has left.
enum class Stage : std::uint8_t { loaded, ready };
struct Wait {
    Instant arrived{};  // when the request did
    Stage stage = Stage::loaded;
    std::optional<Duration> keep_alive{};  // as a request would say it
    StatusLines* lines = nullptr;          // null: the client is told nothing
};
net::Task<std::variant<serving::ModelStatus, Problem>> wait_for_model(Services& services, http::Exchange& exchange,
                                                                      std::string id, Wait wait);

// Says in the log what of a body is not known; both are comma-separated, maybe empty.
void log_unknown(Services& services, http::Request const& request, std::string const& fields,
                 std::string const& options);

// Why the pool did not take a request for it.
[[nodiscard]] Problem refused(Services const& services, std::string const& model, Error const& error);

}  // namespace hearth::api::ollama
