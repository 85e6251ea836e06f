#include "api/ollama/status_lines.h"

#include <utility>

namespace hearth::api::ollama {

StatusLines::StatusLines(Services& services, http::Exchange& exchange, AnswerShape shape, Reader reader)
    : services_(services),
      exchange_(exchange),
      shape_(std::move(shape)),
      reader_(reader),
      next_(services.clock.now() + services.options.status_interval) {}

net::Task<bool> StatusLines::see(jobs::Progress const& progress) {
    Interim const interim{.text = progress.text.empty() ? "quantizing model" : std::string_view(progress.text),
                          .done = progress.done,
                          .total = progress.total,
                          .seconds = {}};
    co_return co_await say(interim);
}

net::Task<bool> StatusLines::see_loading(serving::ModelStatus const& model) {
    Interim const interim{.text = "loading model",
                          .done = static_cast<std::uint64_t>(model.progress * 100),
                          .total = 100,
                          .seconds = model.load_left_s};
    co_return co_await say(interim);
}

net::Task<bool> StatusLines::say(Interim interim) {
    if (exchange_.disconnected()) co_return false;
    auto const now = services_.clock.now();
    if (reader_ == Reader::whole || now < next_) co_return true;
    next_ = now + services_.options.status_interval;
    auto line = render_interim(shape_, interim);
    if (!exchange_.started()) {
        http::StreamHead head;
        head.content_type = kStreamType;
        auto const opened = co_await exchange_.start_stream(std::move(head));
        if (!opened) co_return false;
    }
    auto const written = co_await exchange_.write(std::move(line));
    co_return written.has_value();
}

}  // namespace hearth::api::ollama
