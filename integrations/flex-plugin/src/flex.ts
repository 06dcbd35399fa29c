/**
 * The part of Flex UI 2 that this plugin touches, written down from its published interface. The package
 * `@twilio/flex-ui` would bring the same types together with the whole contact centre; at run time Flex is
 * there anyway, as a global of the page.
 */
import type { ReactElement } from 'react';

/** What Flex hands to each child of a component that belongs to a task. Without a task selected there is none. */
export type TaskProps = { task?: { attributes?: unknown } };

type Content = {
  /** The element needs a `key`; Flex renders it with the properties of the component it was added to. */
  add(
    element: ReactElement,
    options?: { sortOrder?: number; align?: 'start' | 'end'; if?: (props: TaskProps) => boolean },
  ): void;
};

export type Flex = {
  TaskInfoPanel: { Content: Content };
  TaskCanvasHeader: { Content: Content };
};

/** Flex makes one instance, and calls `init` before it draws. */
export type Plugin = { name: string; init(flex: Flex, manager: unknown): void | Promise<void> };

export type Host = { Twilio?: { Flex?: { Plugins?: { init(plugin: new () => Plugin): void } } } };
