// The way from C++ to a C interface that no exception crosses.
#pragma once

#include <c10/util/Exception.h>

#include <exception>
#include <string>

// Of each source that includes it.
namespace {

thread_local std::string last_error;

// Runs `work`; 0, or 1 with the reason kept.
template <typename Work> int guarded(const Work &work) {
  try {
    work();
    return 0;
  } catch (const c10::Error &error) {
    last_error = error.what_without_backtrace();
  } catch (const std::exception &error) {
    last_error = error.what();
  } catch (...) {
    last_error = "libtorch threw something that is no exception";
  }
  return 1;
}

} // namespace
