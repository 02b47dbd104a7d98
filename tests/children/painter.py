"""A plugin that draws into memory with a context of early init."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import moderngl

from belljar import handed

SCENE = """
#version 330
uniform sampler2D picture;
in vec2 at;
out vec4 colour;
void main() { colour = vec4(texture(picture, at * 3.0).rgb, 0.5 + 0.5 * sin(at.x * 40.0) * cos(at.y * 30.0)); }
"""
CORNERS = """
#version 330
in vec3 corner;
out vec2 at;
void main() { at = corner.xy; gl_Position = vec4(corner * (1.0 - 0.1 * gl_InstanceID), 1.0); }
"""
SHRINK = """
#version 330
layout(triangles) in;
layout(triangle_strip, max_vertices = 3) out;
in vec2 at[];
out vec2 place;
void main() {
    for (int i = 0; i < 3; i++) {
        place = at[i];
        gl_Position = gl_in[i].gl_Position * vec4(0.9, 0.9, 1, 1);
        EmitVertex();
    }
    EndPrimitive();
}
"""
FLAT = """
#version 330
in vec2 place;
out vec4 colour;
void main() { colour = vec4(place, 1.0, 1.0); }
"""
DOUBLE = """
#version 430
layout(local_size_x = 64) in;
layout(std430, binding = 0) buffer Numbers { uint numbers[]; };
void main() { numbers[gl_GlobalInvocationID.x] *= 2u; }
"""
WIDTH, HEIGHT = 320, 180


class Painter:
    def renderer(self) -> str:
        context: moderngl.Context = handed("graphics-egl")
        return str(context.info["GL_RENDERER"])

    def make_context(self) -> str:
        """Make a context now, after the seal."""
        egl: dict[str, Any] = {"backend": "egl", "libgl": "libEGL.so.1", "libegl": "libEGL.so.1"}
        return str(moderngl.create_context(standalone=True, **egl).info["GL_RENDERER"])

    def triangle(self, step: str) -> bytes:
        """Draw once with the context of *step*."""
        context: moderngl.Context = handed(step)
        target = context.simple_framebuffer((WIDTH, HEIGHT))
        target.use()
        flat = FLAT.replace("place", "at")
        program = context.program(vertex_shader=CORNERS, fragment_shader=flat)
        _array(context, program).render()
        return target.read()

    def paint(self) -> list[str]:
        """Do what renderers do; return the digest of each picture or buffer that came out."""
        context: moderngl.Context = handed("graphics-egl")
        return [
            hashlib.sha256(each).hexdigest() for each in (*_pictures(context), _feedback(context), _compute(context))
        ]


def _array(context: moderngl.Context, program: moderngl.Program) -> moderngl.VertexArray:
    corners = context.buffer(struct.pack("9f", -1, -1, 0.1, 1, -0.5, 0.3, 0, 1, 0.7))
    return context.vertex_array(program, [(corners, "3f", "corner")])


def _pictures(context: moderngl.Context) -> list[bytes]:
    """Mipmapped texture, depth, blending, instances, a query; then many samples, a geometry shader, a pixel buffer."""
    texture = context.texture((64, 64), 3, bytes(i * 7 % 251 for i in range(64 * 64 * 3)))
    texture.build_mipmaps()
    texture.use()
    context.enable(moderngl.DEPTH_TEST | moderngl.BLEND)
    target = context.framebuffer(context.texture((WIDTH, HEIGHT), 4), context.depth_renderbuffer((WIDTH, HEIGHT)))
    target.use()
    target.clear(0.2, 0.1, 0.3)
    with context.query(samples=True) as seen:
        _array(context, context.program(vertex_shader=CORNERS, fragment_shader=SCENE)).render(instances=5)
    assert seen.samples > 1000
    many = context.framebuffer(context.renderbuffer((WIDTH, HEIGHT), 4, samples=4))
    many.use()
    _array(context, context.program(vertex_shader=CORNERS, geometry_shader=SHRINK, fragment_shader=FLAT)).render()
    context.copy_framebuffer(target, many)
    buffer = context.buffer(reserve=WIDTH * HEIGHT * 4)
    target.read_into(buffer, components=4)
    return [texture.read(), target.read(components=4), buffer.read()]


def _feedback(context: moderngl.Context) -> bytes:
    """What a vertex shader makes, kept in a buffer."""
    program = context.program(vertex_shader=CORNERS, varyings=("at",))
    kept = context.buffer(reserve=24)
    _array(context, program).transform(kept)
    context.finish()
    return kept.read()


def _compute(context: moderngl.Context) -> bytes:
    """The second set of llvmpipe's threads."""
    numbers = context.buffer(struct.pack("4096I", *range(4096)))
    numbers.bind_to_storage_buffer(0)
    context.compute_shader(DOUBLE).run(64)
    return numbers.read()
