#include "core/library.h"

namespace glnet {

const std::string& fingerprint() {
  static const std::string text = "glnet " GLNET_VERSION ", interface " GLNET_INTERFACE;
  return text;
}

}  // namespace glnet
